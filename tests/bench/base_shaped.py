"""A plugin: an upstream with the features of a base encoder in size, 13 layers of 768 at 50 Hz, that costs little.

Each layer is a fixed random projection of the samples of a frame. It is what a benchmark of memory runs on, where what
the features say does not matter and how many there are does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from superbench.plugin import Layers, UpstreamSpec, hookimpl

if TYPE_CHECKING:
    import torch

WIDTH, STRIDE = 768, 320  # of HuBERT base; samples per frame at 16 kHz


@dataclass(frozen=True)
class Options:
    """How many layers there are to sum."""

    layers: int = 13  # of HuBERT base


class BaseShaped:
    """Frames of 20 ms, projected."""

    sample_rate = 16000
    exact_batches = True

    def __init__(self, projections: torch.Tensor) -> None:
        self.projections = projections  # [L, STRIDE, D]
        self.strides, self.widths = (STRIDE,) * len(projections), (WIDTH,) * len(projections)

    def num_frames(self, samples: int) -> int:
        return samples // STRIDE

    def __call__(self, waves: list[torch.Tensor]) -> list[Layers]:
        return [self._layers(wave) for wave in waves]

    def _layers(self, wave: torch.Tensor) -> Layers:
        frames = wave[: self.num_frames(len(wave)) * STRIDE].reshape(-1, STRIDE)
        return Layers(tuple(frames @ projection for projection in self.projections))


def load(options: Options, device: str) -> BaseShaped:
    """Draw the projections, always the same; and let torch load now what it loads with the first optimiser (1 s)."""
    import torch

    torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    drawn = torch.randn(options.layers, STRIDE, WIDTH, generator=torch.Generator().manual_seed(0))
    return BaseShaped(drawn.to(device) / STRIDE**0.5)


@hookimpl
def superbench_upstreams() -> Iterable[UpstreamSpec]:
    """Yield the upstream."""
    yield UpstreamSpec(
        name="base_shaped",
        load=load,
        options=Options,
        summary="random projections, as large as a base encoder's layers",
    )
