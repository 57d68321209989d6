"""Load an upstream by its name and options, on a device."""

from __future__ import annotations

from typing import Any

import torch

from superbench.errors import UsageError
from superbench.features.extraction import LoadedUpstream, plugin_guard
from superbench.options import build_options, format_reference, split_reference
from superbench.plugin import UpstreamSpec
from superbench.registry import Registry


def choose_device(asked: str) -> str:
    """`auto` is the GPU where there is one; the choice is part of the plan."""
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(asked)
        if device.type not in ("cpu", "cuda"):
            raise UsageError(f"device {asked!r}: only cpu and cuda are supported", "use --device cpu")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as exc:
        raise UsageError(f"device {asked!r} cannot be used here: {exc}", "use --device cpu") from exc
    return asked


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
