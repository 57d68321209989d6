"""What is kept of a segment: its frames, or each layer's mean over time, rounded to the numbers that were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from superbench.contracts import Layers
from superbench.features.encoding import decode, encode
from superbench.features.stored_forms import NUMBERS, bytes_of, folder_name


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form of features: "pooled" or "frames", and the numbers they are kept as."""

    name: str
    dtype: str = "float32"

    def __str__(self) -> str:
        return folder_name(self.name, self.dtype)

    @property
    def pooled(self) -> bool:
        return self.name == "pooled"

    def bytes(self, frames: Sequence[int], widths: Sequence[int]) -> int:
        """Bytes of one segment's features, from the frames and the width of each layer."""
        return bytes_of(frames, widths, self.name, self.dtype)

    def held(self, size: int) -> int:
        """Bytes in memory, at most, of features of `size` bytes: they are read as float32, or as float64."""
        number = NUMBERS[self.dtype].bytes
        return size * max(NUMBERS["float32"].bytes, number) // number


def reduce(layers: Layers, form: Form) -> list[Tensor]:
    """What is kept of a segment: [L, (T,) D] where the layers agree in shape, else one tensor per layer.

    float32, but float64 where the form is; what a lossy form loses is lost when the features are stored.
    """
    kept = torch.float64 if form.dtype == "float64" else torch.float32
    tensors = [t.double().mean(dim=0).to(kept) if form.pooled else t.to(kept) for t in layers.tensors]
    same = len({tuple(t.shape) for t in tensors}) == 1
    # clones: a piece of a batch would keep all of it in memory
    return [torch.stack(tensors)] if same else [t.clone() for t in tensors]


def as_if_stored(tensors: Sequence[Tensor], form: Form, segment: str) -> list[Tensor]:
    """Features as they would come back from the store: rounded where its numbers are."""
    return [decode(e.values, e.scales) for e in encode(tensors, form.dtype, segment)]


def unstacked(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Kept frames as one tensor [T, D] per layer."""
    return tuple(tensors[0]) if len(tensors) == 1 else tuple(tensors)


def select(tensors: Sequence[Tensor], layer: int | None) -> Tensor:
    """[L, ...] of all layers, or [1, ...] of one."""
    if layer is None:
        return tensors[0] if len(tensors) == 1 else torch.stack(list(tensors))
    return tensors[0][layer : layer + 1] if len(tensors) == 1 else tensors[layer][None]
