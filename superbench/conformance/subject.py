"""An upstream under examination: run it without the net that a run has under it, and see what it does."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from superbench.conformance.modules import dtype_of
from superbench.conformance.sounds import Sound, lengthened
from superbench.contracts import Layers
from superbench.errors import ContractError, SuperbenchError
from superbench.features.extraction import plugin_guard

RATE = 16000  # Hz, of the sounds for an upstream that states none
LONGEST_SECONDS = 10.0  # of sound in one call
Features = tuple[Tensor, ...]  # of one wave: [T, D] per layer, on the CPU


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An upstream, or one tap of it, and the sounds it is checked on."""

    who: str
    upstream: Any  # with whatever it has and lacks
    device: str
    sounds: tuple[Sound, ...]
    is_tap: bool = False

    @property
    def integers(self) -> bool:
        """Are the features codes?"""
        return bool(getattr(self.upstream, "integers", False))

    @property
    def exact_batches(self) -> bool:
        return bool(getattr(self.upstream, "exact_batches", False))

    @property
    def longest(self) -> int:
        """Samples of the longest wave it is given."""
        limit = getattr(self.upstream, "max_samples", None)
        ours = int(LONGEST_SECONDS * stated_rate(self.upstream))
        return ours if limit is None else min(ours, limit)

    def frames(self, samples: int) -> tuple[int, ...]:
        """Frames per layer that its length rule gives for `samples`."""
        stated = self.upstream.num_frames(samples)
        if hasattr(stated, "__index__"):
            return (operator.index(stated),) * len(self.upstream.strides)
        return tuple(operator.index(f) for f in stated)

    @functools.cached_property
    def fewest(self) -> int:
        """Samples of the shortest wave that gives each layer a frame."""
        for samples in range(1, self.longest + 1):
            if min(self.frames(samples), default=0) > 0:
                return samples
        raise ContractError(
            f"{self.who}: num_frames gives no frame for any length up to {self.longest} samples",
            "num_frames(samples) must say how many frames come out",
        )

    @functools.cached_property
    def waves(self) -> tuple[Sound, ...]:
        """The sounds, none shorter or longer than it takes."""
        return tuple(
            Sound(name=s.name, wave=lengthened(s.wave, min(max(len(s.wave), self.fewest), self.longest)))
            for s in self.sounds
        )

    @property
    def speech(self) -> Sound:
        """The longest sound in which something is heard."""
        return max((s for s in self.waves if bool(s.wave.any())), key=lambda s: len(s.wave))

    def wave(self, samples: int) -> Tensor:
        """`samples` samples of the sounds that are not silent, one after the other: float32 [samples]."""
        return lengthened(torch.cat([s.wave for s in self.sounds if bool(s.wave.any())]), samples)

    def run(self, waves: Sequence[Tensor]) -> list[Features]:
        """Features of each wave [n] as a run would have them computed, on the CPU; nothing of them is checked."""
        torch.backends.cudnn.allow_tf32 = False  # as in superbench.features.extraction
        with torch.inference_mode():
            return [tuple(t.detach().cpu() for t in tensors) for tensors in self.call(waves)]

    def alone(self, wave: Tensor) -> Features:
        """Features of one wave in a call of its own."""
        return self.run([wave])[0]

    def call(self, waves: Sequence[Tensor]) -> list[Features]:
        """Call the upstream in whatever mode torch is; the tensors are as they came."""
        found = list(self.upstream([w.clone().to(self.device) for w in waves]))
        if len(found) != len(waves):
            raise ContractError(f"{len(waves)} waves in, {len(found)} results out", "return one Layers per wave")
        for layers in found:
            tensors = layers.tensors if isinstance(layers, Layers) else None
            if not isinstance(tensors, tuple | list) or not all(isinstance(t, Tensor) for t in tensors):
                raise ContractError(
                    f"a result is {layers!r:.60}, no Layers of tensors", "return Layers((layer_0, layer_1, ...))"
                )
        return [tuple(layers.tensors) for layers in found]

    def refusal(self, wave: Tensor) -> str:
        """The kind of error that a wave is refused with; nothing where it is not."""
        try:
            with plugin_guard(self.who):
                self.alone(wave)
        except SuperbenchError as exc:
            return type(exc.__cause__ or exc).__name__
        return ""

    @contextlib.contextmanager
    def computing_in(self, dtype: torch.dtype) -> Iterator[None]:
        """Compute in `dtype` by its own `astype`, then as before: in float32, or what it was loaded in."""
        before = dtype_of(self.upstream)
        self.upstream.astype(dtype)
        try:
            yield
        finally:
            self.upstream.astype(before)

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """What it can compute in: float32, and float64 where it has `astype`."""
        return (torch.float32, torch.float64) if hasattr(self.upstream, "astype") else (torch.float32,)


def stated_rate(upstream: Any) -> int:
    """Hz that an upstream states; 16000 where it states none that could be one."""
    try:
        with plugin_guard("the upstream"):
            rate = getattr(upstream, "sample_rate", None)
    except SuperbenchError:  # which is told where its facts are
        return RATE
    return rate if isinstance(rate, int) and rate > 0 else RATE


def name_of(dtype: torch.dtype) -> str:
    """A dtype as a person says it: float32."""
    return str(dtype).removeprefix("torch.")
