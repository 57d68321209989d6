"""The light heads of SUPERB. Each reads the weighted sum over the layers of a frozen upstream."""

from __future__ import annotations

from collections.abc import Iterable

from superbench.plugin import DownstreamSpec, hookimpl
from superbench_downstreams.specs import SPECS


@hookimpl
def superbench_downstreams() -> Iterable[DownstreamSpec]:
    """Yield the heads of ASR, PR and the utterance tasks."""
    yield from SPECS
