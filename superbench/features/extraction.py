"""Run a frozen upstream on waves and hold it to its contract: rank, width, frame count, finite values, no side effects.

Shapes: a wave is [n]; what comes back for it is one tensor [T, D] per layer, cut to its valid length.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from superbench.contracts import Layers, Provenance, sha256_of
from superbench.errors import (
    ContractError,
    NumericalError,
    PluginError,
    ResourceError,
    SuperbenchError,
    UsageError,
    did_you_mean,
)
from superbench.plugin import Upstream
from superbench.randomness import HELD

PROBE_SAMPLES = (16000, 11213)
HIDDEN = "hidden"  # the tap that every upstream has: its layers
NAMED = 20  # waves of a batch that an error names


@dataclass(frozen=True, kw_only=True)
class LoadedUpstream:
    """An upstream in memory, with who brought it and the key its features are kept under."""

    name: str  # as typed, with its options
    upstream: Upstream
    provenance: Provenance
    device: str
    key: str = ""  # see superbench.features.identity
    fingerprint: str = ""  # hash of its features on the probe waves, rounded to 1e-3
    tap: str = HIDDEN  # which of its outputs `upstream` gives, see `open_tap`
    dtype: str = "float32"  # that it computes in, see `in_dtype`
    _frames: dict[int, tuple[int, ...]] = field(default_factory=dict, compare=False, repr=False)  # by samples

    @property
    def layers(self) -> int:
        return len(self.upstream.strides)

    @property
    def integers(self) -> bool:
        """Are its tensors integer codes?"""
        return bool(getattr(self.upstream, "integers", False))

    @property
    def who(self) -> str:
        tapped = "" if self.tap == HIDDEN else f"tap {self.tap!r} of "
        return f"{tapped}upstream {self.name!r} of {self.provenance}"

    def __call__(self, waves: Sequence[Tensor]) -> list[Layers]:
        """Features of each wave [n], on the CPU, held to the contract."""
        return extract(self, waves, [f"wave {i}" for i in range(len(waves))])

    def frames(self, samples: int) -> tuple[int, ...]:
        """Frames per layer that the upstream's own length rule gives for `samples`; asked once."""
        if samples in self._frames:
            return self._frames[samples]
        with plugin_guard(self.who):
            stated = self.upstream.num_frames(samples)
            frames = (int(stated),) * self.layers if isinstance(stated, int) else tuple(int(f) for f in stated)
        if len(frames) != self.layers:
            raise ContractError(
                f"{self.who} has {self.layers} layers, and num_frames({samples}) gives {len(frames)} numbers",
                "return one number for all layers, or one per layer",
            )
        self._frames[samples] = frames
        return frames


def check_facts(loaded: LoadedUpstream) -> None:
    """Refuse an upstream whose stated facts do not fit together."""
    upstream = loaded.upstream
    with plugin_guard(loaded.who):
        missing = [a for a in ("sample_rate", "strides", "widths", "num_frames") if not hasattr(upstream, a)]
        strides, widths = (len(tuple(getattr(upstream, a, ()))) for a in ("strides", "widths"))
    if missing:
        raise ContractError(
            f"{loaded.who} does not state: {', '.join(missing)}",
            "see superbench.plugin.Upstream for what an upstream states",
        )
    if strides != widths or not strides:
        raise ContractError(
            f"{loaded.who} states {strides} strides and {widths} widths",
            "give one stride and one width per layer",
        )


def tap_names(loaded: LoadedUpstream) -> tuple[str, ...]:
    """Every output that an upstream offers, its layers first."""
    with plugin_guard(loaded.who):
        stated = getattr(loaded.upstream, "taps", ())
    if not isinstance(stated, tuple | list) or not all(isinstance(name, str) for name in stated):
        raise ContractError(f"{loaded.who} states taps = {stated!r}", "give a tuple of names")
    return (HIDDEN, *(name for name in stated if name != HIDDEN))


def open_tap(loaded: LoadedUpstream, name: str) -> LoadedUpstream:
    """Another output of the same weights, by name, as an upstream with a key of its own; "hidden" is what it was.

    Its fingerprint is not taken. Raises `UsageError` where the upstream has no such tap.
    """
    names = tap_names(loaded)
    if name not in names:
        raise UsageError(f"{loaded.who} has no tap {name!r}; it has {', '.join(names)}", did_you_mean(name, names))
    if name == HIDDEN:
        return loaded
    with plugin_guard(f"tap {name!r} of {loaded.who}"), torch.no_grad():
        upstream = loaded.upstream.tap(name)  # type: ignore[attr-defined]  # promised by `taps`
    key = sha256_of([loaded.key, "tap", name]) if loaded.key else ""
    tapped = replace(loaded, upstream=upstream, key=key, fingerprint="", tap=name, _frames={})
    check_facts(tapped)
    return tapped


def in_dtype(loaded: LoadedUpstream, dtype: str) -> LoadedUpstream:
    """The same upstream computing in "float32" or "float64"; raises `ContractError` where it knows float32 only."""
    if dtype == loaded.dtype:
        return loaded
    if not hasattr(loaded.upstream, "astype"):
        raise ContractError(
            f"{loaded.who} computes in float32 only, and {dtype} was asked for",
            "leave --precision (of extract: --dtype) out, or give the upstream a method astype(dtype)",
        )
    with plugin_guard(loaded.who):
        upstream = loaded.upstream.astype(getattr(torch, dtype))
    return replace(loaded, upstream=upstream, dtype=dtype)


@contextlib.contextmanager
def plugin_guard(who: str) -> Iterator[None]:
    """Keep a plugin from changing what is ours (random state, threads, stdout), and name it when it fails."""
    with HELD, _guarded(who):
        yield


@contextlib.contextmanager
def _guarded(who: str) -> Iterator[None]:
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except SuperbenchError as exc:
        exc.message = exc.message if who in exc.message else f"{who}: {exc.message}"
        raise
    except torch.cuda.OutOfMemoryError as exc:
        raise ResourceError(f"{who} ran out of GPU memory: {exc}", "use --device cpu, or shorter recordings") from exc
    except MemoryError as exc:
        raise ResourceError(f"{who} ran out of memory: {exc}", "use shorter recordings or a larger machine") from exc
    except (Exception, SystemExit) as exc:
        raise PluginError(f"{who} failed: {type(exc).__name__}: {exc}", "run with --debug for its traceback") from exc
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def extract(loaded: LoadedUpstream, waves: Sequence[Tensor], names: Sequence[str]) -> list[Layers]:
    """Features of each wave [n], checked against the contract; on the CPU. `names` are for error messages."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    who = f"{loaded.who} on {', '.join(names[:NAMED])}{more}"
    torch.backends.cudnn.allow_tf32 = False  # on by default: convolutions of ten-bit mantissas are not float32
    with plugin_guard(who), torch.inference_mode():
        found = list(loaded.upstream([_as_fed(w, loaded) for w in waves]))
    if len(found) != len(waves):
        raise ContractError(f"{who}: {len(waves)} waves in, {len(found)} results out", "return one Layers per wave")
    return [
        Layers(_checked(loaded, layers, len(wave), name))
        for layers, wave, name in zip(found, waves, names, strict=True)
    ]


def _as_fed(wave: Tensor, loaded: LoadedUpstream) -> Tensor:
    """A copy of a float32 wave on the device, in the precision that the upstream computes in."""
    copy = wave.clone().to(loaded.device)
    return copy.double() if loaded.dtype == "float64" else copy


def _checked(loaded: LoadedUpstream, layers: Layers, samples: int, name: str) -> tuple[Tensor, ...]:
    who = f"{loaded.who} on {name}"
    if not isinstance(layers, Layers):
        raise ContractError(
            f"{who}: expected superbench.plugin.Layers, got {type(layers).__name__}", "wrap the tensors"
        )
    if not isinstance(layers.tensors, tuple | list):
        raise ContractError(
            f"{who}: expected Layers of a tuple of tensors, got one of {type(layers.tensors).__name__}",
            "return Layers((layer_0, layer_1, ...)), each [T, D]",
        )
    if len(layers.tensors) != loaded.layers:
        raise ContractError(
            f"{who}: expected {loaded.layers} layers (the length of `strides`), got {len(layers.tensors)}",
            "is layerdrop off, and is the model in eval mode?",
        )
    frames = loaded.frames(samples)
    for i, (tensor, t, width) in enumerate(zip(layers.tensors, frames, loaded.upstream.widths, strict=True)):
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != (t, width):
            got = f"a tensor {list(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ContractError(
                f"{who}: layer {i}: expected [T={t}, D={width}] for {samples} samples, got {got}",
                "`num_frames` and `widths` must say exactly what comes out",
            )
        if loaded.integers:
            if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
                raise ContractError(
                    f"{who}: layer {i}: expected integers, got {tensor.dtype}",
                    "return integer tensors, or do not state integers = True",
                )
            continue
        if not tensor.is_floating_point():
            raise ContractError(
                f"{who}: layer {i}: expected floating point, got {tensor.dtype}",
                "return float tensors, or state integers = True where they are codes",
            )
        if not bool(torch.isfinite(tensor.detach()).all()):
            raise NumericalError(
                f"{who}: layer {i} has NaN or infinite values", "check the checkpoint, and this recording"
            )
    return tuple(t.detach().cpu() for t in layers.tensors)


def probe_waves(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Two fixed waves: a swept tone in noise, for fingerprints and timing."""
    waves = []
    for seed, samples in enumerate(PROBE_SAMPLES):
        noise = torch.randn(samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        time = torch.arange(samples, dtype=torch.float64) / 16000
        waves.append((0.1 * torch.sin(2 * torch.pi * (200 + 900 * time) * time) + 0.02 * noise).to(dtype))
    return waves


def probe_hash(loaded: LoadedUpstream, *, decimals: int | None) -> str:
    """Hash of the features of the probe waves: exact bytes, or rounded to `decimals`.

    Computed on one thread, so that it does not depend on how many there are. The first wave is computed again after
    the second, with other random numbers at hand: an upstream that then says something else is refused.
    """
    digest, waves, found = hashlib.sha256(), probe_waves(), []
    with plugin_guard(loaded.who):
        torch.set_num_threads(1)
        for draw, i in enumerate((0, 1, 0)):
            random.seed(draw)
            np.random.seed(draw)
            torch.manual_seed(draw)
            found.append(extract(loaded, [waves[i]], [f"probe {i}"])[0].tensors)
    for layer, (first, again) in enumerate(zip(found[0], found[2], strict=True)):
        if not torch.equal(first, again):
            raise ContractError(
                f"{loaded.who}: layer {layer} of the same wave differs by {float((first - again).abs().max()):.3g} "
                "from one call to the next",
                "is the model in eval mode, without dropout, layerdrop or a state that calls change?",
            )
    for tensor in (*found[0], *found[1]):
        values = tensor.double() if decimals is None else tensor.double().round(decimals=decimals) + 0.0
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()
