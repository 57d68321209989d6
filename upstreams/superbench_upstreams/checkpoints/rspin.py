"""R-Spin's published files. They do not say how large the encoder is, which is always WavLM base.

{"cfg": {"codebook_dim": 256, "codebook_size": 2048},
 "state_dict": {"encoder.<names of unilm>": ..., "pred_head.weight": [256, 768], "codebook.weight": [2048, 256]}}
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from superbench.errors import PluginError
from superbench_upstreams.checkpoints.checkpoint import Checkpoint
from superbench_upstreams.checkpoints.fitting import fit
from superbench_upstreams.checkpoints.names import FAIRSEQ
from superbench_upstreams.checkpoints.spin import DROPPED, WAVLM_BASE, head_and_codebook
from superbench_upstreams.checkpoints.stated import Stated
from superbench_upstreams.checkpoints.unilm import wavlm_config
from superbench_upstreams.checkpoints.wording import shown
from superbench_upstreams.encoder import EncoderConfig

OWN = {"pred_head.weight": "head.weight", "pred_head.bias": "head.bias", "codebook.weight": "codebook.weight"}


def read_rspin(held: Mapping[str, Any], path: Path, normalize: bool | None, config: str) -> Checkpoint:
    """Read an R-Spin file; `config` names a JSON file with another encoder's settings, as unilm's cfg has them."""
    encoder = _encoder(config) if config else WAVLM_BASE
    if normalize is not None:
        encoder = dataclasses.replace(encoder, normalize=normalize)
    tensors, cfg = held["state_dict"], Stated(held["cfg"], path)
    weights = fit(
        {name.removeprefix("encoder."): tensor for name, tensor in tensors.items() if name not in OWN},
        encoder,
        FAIRSEQ,
        path=path,
        dropped=DROPPED,
        hint="its encoder is read as WavLM base: give config=FILE, a JSON file with the settings of another one"
        if not config
        else f"is {config} the configuration of its encoder?",
    )
    extras = head_and_codebook(tensors, OWN, encoder, path)
    stated = [cfg.whole("codebook_size", 0), cfg.whole("codebook_dim", 0)]
    if stated != list(extras["codebook.weight"].shape):
        raise PluginError(
            f"{path} states a codebook of {stated}, and holds one of {list(extras['codebook.weight'].shape)}",
            "get the checkpoint as its makers published it",
        )
    return Checkpoint(family="rspin", format="rspin", config=encoder, weights=weights, extras=extras, settings={})


def _encoder(config: str) -> EncoderConfig:
    path = Path(config)
    try:
        path = path.expanduser()
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise PluginError(f"{path} is no JSON: {error}", "give config= a JSON file of WavLM's settings") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no such user as in ~user
        reason = error.strerror if isinstance(error, OSError) else error
        raise PluginError(f"{shown(config)} cannot be read: {reason}", "give config= a JSON file") from error
    if not isinstance(values, dict):
        raise PluginError(f"{path} holds no JSON object", "give config= a JSON file of WavLM's settings")
    missing = [key for key in ("encoder_embed_dim", "encoder_layers") if key not in values]
    if missing:
        raise PluginError(
            f"{path} holds no settings of WavLM: it does not say {' and '.join(missing)}",
            "give config= a JSON file of WavLM's settings, as unilm's cfg has them",
        )
    return wavlm_config(Stated(values, path), None)
