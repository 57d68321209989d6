"""WavLM as unilm publishes it, and as s3prl passes it on: {"cfg": {"encoder_layers": 12, ...}, "model": {...}}.

Defaults are those of unilm/wavlm/WavLM.py, WavLMConfig.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from superbench.errors import PluginError
from superbench_upstreams.checkpoints.checkpoint import Checkpoint
from superbench_upstreams.checkpoints.fairseq import encoder_config
from superbench_upstreams.checkpoints.fitting import fit
from superbench_upstreams.checkpoints.names import FAIRSEQ
from superbench_upstreams.checkpoints.stated import Stated
from superbench_upstreams.encoder import EncoderConfig

DROPPED = ("label_embs_concat", "final_proj")


def read_unilm(held: Mapping[str, Any], path: Path, normalize: bool | None) -> Checkpoint:
    """Read a WavLM file; `normalize` overrides what the file says."""
    if not isinstance(held["model"], Mapping):
        raise PluginError(f"{path} holds no tensors of a model", "download or copy the file again")
    config = wavlm_config(Stated(held["cfg"], path), normalize)
    if not config.relative_buckets:
        raise PluginError(
            f"{path} states no relative_position_embedding, so it is no WavLM", "give a file of unilm's WavLM"
        )
    weights = fit(held["model"], config, FAIRSEQ, path=path, dropped=DROPPED)
    return Checkpoint(family="wavlm", format="unilm", config=config, weights=weights, extras={}, settings={})


def wavlm_config(stated: Stated, normalize: bool | None) -> EncoderConfig:
    """What a configuration of WavLM computes, its positions included."""
    said = stated.flag("normalize", False) if normalize is None else normalize
    config = encoder_config(stated, normalize=said)
    if not stated.flag("relative_position_embedding", False):
        return config
    if not stated.flag("gru_rel_pos", False):
        raise PluginError(
            f"{stated.path} states relative_position_embedding without gru_rel_pos, which the encoder here does not "
            "compute",
            "give a checkpoint with gated relative positions, as the published ones have",
        )
    return dataclasses.replace(
        config,
        relative_buckets=stated.whole("num_buckets", 320),
        relative_distance=stated.whole("max_distance", 1280),
    )
