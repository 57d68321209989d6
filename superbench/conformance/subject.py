"""An upstream under examination: run it without the net that a run has under it, and see what it does."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from superbench.conformance.modules import dtype_of
from superbench.conformance.report import described
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
        if isinstance(stated, int):
            return (stated,) * len(self.upstream.strides)
        try:
            return tuple(operator.index(f) for f in stated)
        except TypeError:
            raise ContractError(
                f"num_frames({samples}) gives {described(stated)}",
                "num_frames(samples) must return a whole number (int), or a tuple of one per layer",
            ) from None

    @functools.cached_property
    def fewest(self) -> int:
        """Samples of the shortest wave that gives each layer a frame."""
        for samples in range(1, self.longest + 1):
            if min(self.frames(samples), default=0) > 0:
                return samples
        raise ContractError(
            f"num_frames gives no frame for any length up to {self.longest} samples",
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
        given = self.upstream([w.clone().to(self.device) for w in waves])
        if isinstance(given, Layers | Tensor | Mapping | str) or not isinstance(given, Iterable):
            raise ContractError(
                f"the call returned {described(given)}, no list of Layers", "return a list with one Layers per wave"
            )
        found = list(given)
        if len(found) != len(waves):
            raise ContractError(f"{len(waves)} waves in, {len(found)} results out", "return one Layers per wave")
        for layers in found:
            odd = _other_than_layers(layers)
            if odd:
                raise ContractError(
                    f"a result is {odd}, no Layers of tensors", "return Layers((layer_0, layer_1, ...))"
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
    def computing_in(self, dtype: torch.dtype) -> Iterator[Any]:
        """Compute in `dtype` by its own `astype`, then as before: in float32, or what it was loaded in.

        Gives what `astype` returned, which should be the upstream itself.
        """
        before = dtype_of(self.upstream)
        given = self.upstream.astype(dtype)
        try:
            yield given
        finally:
            self.upstream.astype(before)

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """What it can compute in: float32, and float64 where it has `astype`."""
        return (torch.float32, torch.float64) if hasattr(self.upstream, "astype") else (torch.float32,)


def stated_rate(upstream: Any) -> int:
    """Hz that an upstream states; 16000 where it states none that could be one."""
    return _rate(upstream) or RATE


def states_rate(upstream: Any) -> bool:
    """Does an upstream state a rate that could be one? Where not, that is told where its facts are."""
    return _rate(upstream) is not None


def _rate(upstream: Any) -> int | None:
    try:
        with plugin_guard("the upstream"):
            rate: Any = getattr(upstream, "sample_rate", None)
    except SuperbenchError:
        return None
    return int(rate) if is_count(rate) else None


def is_count(value: Any) -> bool:
    """Is it a whole number above 0? A truth is none."""
    return not isinstance(value, bool) and isinstance(value, int | np.integer) and int(value) > 0


def _other_than_layers(result: Any) -> str:
    """What a result is in place of Layers of tensors; nothing where it is that."""
    if not isinstance(result, Layers):
        return described(result)
    tensors: Any = result.tensors
    if not isinstance(tensors, tuple | list):
        return f"Layers of {described(tensors)}, without a tuple around it"
    return next((f"Layers with {described(t)}" for t in tensors if not isinstance(t, Tensor)), "")


def name_of(dtype: torch.dtype) -> str:
    """A dtype as a person says it: float32."""
    return str(dtype).removeprefix("torch.")
