"""The upstreams wing: frozen encoders, and the features of old to measure them against."""

from __future__ import annotations

from collections.abc import Iterable

from superbench.plugin import UpstreamSpec, hookimpl
from superbench_upstreams import baseline, huggingface


@hookimpl
def superbench_upstreams() -> Iterable[UpstreamSpec]:
    """Yield every upstream that comes with superbench."""
    yield from baseline.SPECS
    yield huggingface.SPEC
