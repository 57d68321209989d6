"""For the tests of those who write upstreams: one call that tries every promise of the contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from superbench.conformance import Report, check
from superbench.conformance.sounds import Sound, read_sounds
from superbench.conformance.subject import stated_rate, states_rate
from superbench.contracts import Provenance
from superbench.features.extraction import LoadedUpstream
from superbench.loading import open_unprobed
from superbench.plugin import Upstream
from superbench.registry import Registry

__all__ = ["check_upstream"]


def check_upstream(
    upstream: str | Upstream | LoadedUpstream,
    *,
    sounds: Sequence[str | Path | Tensor] | None = None,
    resample: bool = False,
    device: str = "cpu",
    plugins: Sequence[str] = (),
) -> Report:
    """Try every promise of an upstream, as `superbench check` does; raises `AssertionError` where one is broken.

    `upstream` is "name:option=value", with the files or modules that bring it in `plugins`, or an upstream that is
    loaded already, on `device`. `sounds` are sound files (of another rate only with `resample`) or waves, float
    tensors [n] at the upstream's rate; without any, speech-like sounds are made. The error's text is the whole table.
    """
    if isinstance(upstream, LoadedUpstream):
        loaded = upstream
    elif isinstance(upstream, str):
        _, _, loaded = open_unprobed(upstream, Registry.load(plugins), device)
    else:
        kind = type(upstream)
        brought = Provenance(plugin=kind.__module__)
        loaded = LoadedUpstream(name=kind.__qualname__, upstream=upstream, provenance=brought, device=device)
    any_rate = resample or not states_rate(loaded.upstream)  # without a rate only its facts are tried
    report = check(loaded, _heard(sounds or (), stated_rate(loaded.upstream), any_rate))
    if report.broken:
        raise AssertionError(str(report))
    return report


def _heard(sounds: Sequence[str | Path | Tensor], rate: int, resample: bool) -> list[Sound]:
    found = []
    for number, sound in enumerate(sounds):
        if isinstance(sound, Tensor):
            found.append(Sound(name=f"wave {number}", wave=sound.detach().cpu().float()))
        else:
            found += read_sounds([Path(sound)], rate=rate, resample=resample)
    return found
