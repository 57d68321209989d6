"""Load an upstream by its name and options."""

from __future__ import annotations

from typing import Any

import torch

from superbench.features.extraction import LoadedUpstream, plugin_guard
from superbench.options import build_options, format_reference, split_reference
from superbench.plugin import UpstreamSpec
from superbench.registry import Registry


def open_unprobed(reference: str, registry: Registry, device: str) -> tuple[UpstreamSpec, Any, LoadedUpstream]:
    """Load an upstream by name and options, and hold it to nothing yet: its features have no key.

    Returns its spec and its options beside it.
    """
    name, given = split_reference(reference)
    found = registry.upstream(name)
    options = build_options(found.spec.options, given, who=f"upstream {name}")
    with plugin_guard(f"upstream {name!r} of {found.provenance}"), torch.no_grad():
        upstream = found.spec.load(options, device)
    shown = format_reference(name, options)
    loaded = LoadedUpstream(name=shown, upstream=upstream, provenance=found.provenance, device=device)
    return found.spec, options, loaded
