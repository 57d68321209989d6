"""A folder of ours as a checkpoint: its encoder's configuration, held against the one that we know, and its tensors."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from superbench.errors import PluginError
from superbench_upstreams.checkpoints import own
from superbench_upstreams.checkpoints.checkpoint import FAMILIES, Checkpoint
from superbench_upstreams.checkpoints.fitting import number, verify
from superbench_upstreams.checkpoints.stated import Stated
from superbench_upstreams.checkpoints.wording import listed
from superbench_upstreams.encoder import EncoderConfig

BARE = ("hubert", "wav2vec2", "wavlm")  # methods whose checkpoint is an encoder alone


def read_own(folder: Path, normalize: bool | None) -> Checkpoint:
    """Read a folder of ours; `normalize` overrides what it says."""
    found = own.read_folder(folder)
    if found.family not in FAMILIES:
        name = listed([found.family])
        raise PluginError(
            f"{folder} is a {name} checkpoint, of no method that is read here",
            f"use --upstream {name}:checkpoint={folder} where there is such an upstream; "
            f"read here are {', '.join(FAMILIES)}",
        )
    config = _own_config(found.config, folder)
    if normalize is not None:
        config = dataclasses.replace(config, normalize=normalize)
    weights = {n.removeprefix("encoder."): t for n, t in found.tensors.items() if n.startswith("encoder.")}
    extras = {n.removeprefix("extras."): t for n, t in found.tensors.items() if n.startswith("extras.")}
    if found.family in BARE and (extras or found.settings):
        raise PluginError(
            f"{folder} is a {found.family} checkpoint, which has an encoder and nothing else, and holds also "
            f"{listed([*(f'extras.{name}' for name in extras), *(f'settings.{key}' for key in found.settings)])}",
            "is its family the right one? copy the folder again as it was written",
        )
    strange = [name for name in found.tensors if not name.startswith(("encoder.", "extras."))]
    return Checkpoint(
        family=found.family,
        format="superbench",
        config=config,
        weights=verify(weights, config, path=folder, unexpected=strange),
        extras={name: number(tensor, name, folder) for name, tensor in extras.items()},
        settings=found.settings,
    )


def _own_config(said: Mapping[str, Any], folder: Path) -> EncoderConfig:
    fresh = json.loads(json.dumps(dataclasses.asdict(EncoderConfig())))
    kinds = {key: (type(value), int) if isinstance(value, float) else (type(value),) for key, value in fresh.items()}
    wrong = sorted(set(said) ^ set(fresh))
    wrong += [key for key, kind in kinds.items() if key in said and type(said[key]) not in kind]
    if wrong:
        raise PluginError(
            f"{folder / own.DESCRIPTION}: unknown, missing or of a wrong type in config: {listed(wrong)}",
            "was it written by another version of superbench? use that one, or correct the file",
        )
    stated = Stated(said, folder / own.DESCRIPTION)
    stated.require("conv_norm", "group", "layer")
    return EncoderConfig(**{**said, "conv_layers": stated.conv_layers("conv_layers", "")})
