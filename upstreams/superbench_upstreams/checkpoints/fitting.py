"""Hold a file's tensors against the encoder they are for: none missing, none too many, each of its shape and finite."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from superbench.errors import NumericalError, PluginError
from superbench_upstreams.checkpoints.names import Table, belongs, ours
from superbench_upstreams.encoder import Encoder, EncoderConfig

SHOWN = 5  # names that an error lists
DEEPEST = 1000  # layers; a file that states more is damaged


def fit(
    tensors: Mapping[str, Any],
    config: EncoderConfig,
    table: Table,
    *,
    path: Path,
    dropped: Collection[str] = (),
    given: Mapping[str, Tensor] | None = None,
    hint: str = "",
) -> dict[str, Tensor]:
    """Return the state of `Encoder(config)` in float32 from tensors under a file's own names.

    `dropped`: parts that encoders of this kind carry and nobody needs here. `given`: tensors, under our names, that
    stand where the file has none. Raises `PluginError` where the tensors are not those of the encoder.
    """
    found: dict[str, Tensor] = {}
    unexpected = []
    for name, tensor in tensors.items():
        part = ours(name, table)
        if part is not None and part not in found and isinstance(tensor, Tensor):
            found[part] = tensor
        elif not belongs(name, dropped):
            unexpected.append(name)
    return verify({**(given or {}), **found}, config, path=path, unexpected=unexpected, hint=hint)


def verify(
    found: Mapping[str, Tensor],
    config: EncoderConfig,
    *,
    path: Path,
    unexpected: Sequence[str] = (),
    hint: str = "",
) -> dict[str, Tensor]:
    """Return tensors under our own names, in float32, where they are exactly the state of `Encoder(config)`."""
    shapes = expected(config, path)
    troubles = {
        "unexpected": [*unexpected, *(name for name in found if name not in shapes)],
        "missing": [name for name in shapes if name not in found],
        "of another shape": [
            f"{name} {list(found[name].shape)}, not {list(shape)}"
            for name, shape in shapes.items()
            if name in found and found[name].shape != shape
        ],
    }
    if any(troubles.values()):
        said = [f"{len(names)} {kind}: {listed(names)}" for kind, names in troubles.items() if names]
        raise PluginError(
            f"{path}: its tensors are not those of the encoder that it describes; {'; '.join(said)}",
            hint or "is it a checkpoint as its makers published it, of a kind this upstream reads?",
        )
    return {name: number(found[name], name, path) for name in shapes}


def number(tensor: Any, name: str, path: Path) -> Tensor:
    """A tensor in float32; raises `NumericalError` where it holds a NaN or an infinity."""
    if not isinstance(tensor, Tensor):
        raise PluginError(f"{path}: {name} is no tensor", "download or copy the file again")
    numbers: Tensor = tensor.detach().to(torch.float32)
    if not bool(torch.isfinite(numbers).all()):
        raise NumericalError(
            f"{path}: {name} holds a NaN or an infinity",
            "the training went astray, or the file is damaged: get another",
        )
    return numbers


def expected(config: EncoderConfig, path: Path) -> dict[str, torch.Size]:
    """The names and shapes of an encoder's state, without its memory."""
    sizes = (config.width, config.layers, config.heads, config.ffn_width, config.position_taps, config.position_depth)
    fits = min(*sizes, config.position_groups) > 0 and max(config.layers, config.position_depth) <= DEEPEST
    if not fits or config.width % config.heads or config.width % config.position_groups:
        raise PluginError(
            f"{path}: no encoder is of the sizes that it states: width {config.width}, {config.layers} layers, "
            f"{config.heads} heads, feed-forward width {config.ffn_width}, {config.position_taps} positional taps in "
            f"{config.position_groups} groups",
            "download or copy it again, or correct its configuration",
        )
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in Encoder(config).state_dict().items()}


def listed(names: Collection[str]) -> str:
    """The first few names, and whether there are more."""
    return ", ".join([*sorted(names)[:SHOWN], *(["..."] if len(names) > SHOWN else [])])
