"""The upstreams wing: frozen encoders, and the features of old to measure them against."""

from __future__ import annotations

from collections.abc import Iterable

from superbench.plugin import CommandSpec, UpstreamSpec, hookimpl
from superbench_upstreams import (
    baseline,
    data2vec,
    dcspin,
    dinosr,
    distilhubert,
    dmel,
    hubert,
    huggingface,
    rspin,
    spin,
    usad,
    wav2vec2,
    wavlm,
)

METHODS = (hubert, wav2vec2, wavlm, data2vec, dinosr, spin, rspin, dcspin, usad, distilhubert, dmel, huggingface)


@hookimpl
def superbench_upstreams() -> Iterable[UpstreamSpec]:
    """Yield every upstream that comes with superbench."""
    yield from baseline.SPECS
    for method in METHODS:
        yield method.SPEC


@hookimpl
def superbench_commands() -> Iterable[CommandSpec]:
    """Yield the group `superbench upstreams`."""
    from superbench_upstreams.commands import upstreams

    yield CommandSpec(command=upstreams)
