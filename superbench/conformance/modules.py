"""The torch modules of an upstream: wherever it keeps them, within reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch


def dtype_of(upstream: Any) -> torch.dtype:
    """The dtype of most of its weights; float32 where it has none."""
    dtypes = Counter[torch.dtype]()
    for module in modules_of(upstream).values():
        for weights in module.parameters(recurse=False):
            if weights.is_floating_point():
                dtypes[weights.dtype] += weights.numel()
    return dtypes.most_common(1)[0][0] if dtypes else torch.float32


def modules_of(upstream: Any) -> dict[str, torch.nn.Module]:
    """Torch modules by name: its own, those of its attributes, in their containers, and in plain objects there."""
    roots: dict[str, torch.nn.Module] = {}
    for name, value in _inside(upstream, "upstream"):
        if isinstance(value, torch.nn.Module):
            roots[name] = value
        else:
            roots |= {n: v for n, v in _inside(value, name) if isinstance(v, torch.nn.Module)}
    found: dict[int, tuple[str, torch.nn.Module]] = {}
    for root, module in roots.items():
        for name, part in module.named_modules(prefix=root):
            found.setdefault(id(part), (name, part))
    return dict(found.values())


def _inside(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A thing, its attributes (its class's too), and what stands in those that are lists, tuples or dictionaries."""
    yield name, value
    if isinstance(value, type | torch.Tensor) or not hasattr(value, "__dict__"):
        return
    own = [vars(value), *(vars(kind) for kind in type(value).__mro__ if kind is not torch.nn.Module)]
    attributes = {f"{name}.{k}": v for held in reversed(own) for k, v in held.items() if not k.startswith("__")}
    for where, attribute in attributes.items():
        yield where, attribute
        if isinstance(attribute, list | tuple):
            yield from ((f"{where}[{i}]", item) for i, item in enumerate(attribute))
        elif isinstance(attribute, dict):
            yield from ((f"{where}[{key!r}]", item) for key, item in attribute.items())
