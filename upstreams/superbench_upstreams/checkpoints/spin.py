"""Spin's training files, as Lightning writes them. They do not say how large the encoder is.

    {"hyper_parameters": {"model": {"encoder": {"type": "HuBERT", "use_layer": 12, ...}, "loss": {"temp": 0.1}}},
     "state_dict": {"encoder.model.<names of s3prl>": ..., "pred_head.layers.0.weight": [256, 768], ...,
                    "loss_module.codebook.weight": [K, 256]}}

`settings["layer"]` is the one that the head reads, counted from 1, where that is not the last.
The published ones were trained from HuBERT base and WavLM base (vectominist/spin, README), whose sizes are taken where
no other checkpoint is named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from superbench.errors import PluginError
from superbench_upstreams.checkpoints.checkpoint import Checkpoint
from superbench_upstreams.checkpoints.fitting import fit, number
from superbench_upstreams.checkpoints.names import FAIRSEQ
from superbench_upstreams.checkpoints.stated import Stated
from superbench_upstreams.checkpoints.wording import shown
from superbench_upstreams.encoder import EncoderConfig

# fairseq, examples/hubert/config/pretrain/hubert_base_librispeech.yaml; WavLM base has the same.
HUBERT_BASE = EncoderConfig(
    input_dropout=0.1, dropout=0.1, attention_dropout=0.1, layerdrop=0.05, conv_grad_scale=0.1, normalize=False
)
WAVLM_BASE = dataclasses.replace(HUBERT_BASE, relative_buckets=320, relative_distance=800)  # unilm/wavlm, WavLM-Base
BASES = {"HuBERT": ("hubert", HUBERT_BASE), "WavLM": ("wavlm", WAVLM_BASE)}
TEMPERATURE = 0.1  # of the codebook's logits: vectominist/spin, config/spin.yaml; the paper's as well
DROPPED = ("label_embs_concat", "final_proj")
OWN = {
    "pred_head.layers.0.weight": "head.weight",
    "pred_head.layers.0.bias": "head.bias",
    "loss_module.codebook.weight": "codebook.weight",
}
ENCODER = "encoder.model."


def read_spin(held: Mapping[str, Any], path: Path, normalize: bool | None, base: Checkpoint | None) -> Checkpoint:
    """Read a Spin file; `base` is a checkpoint of the encoder that it was trained from, whose sizes are taken."""
    model = Stated(_inner(held.get("hyper_parameters"), "model"), path)
    encoder, loss = (Stated(_inner(model.values, part), path) for part in ("encoder", "loss"))
    for key in ("normalize", "pre_normalize", "disable_pos"):
        encoder.require(key, False, None)
    model.require("normalize", False, None)
    encoder.require("feat_select", "x", None)
    loss.require("l2_norm", True, None)
    head = Stated(_inner(model.values, "pred_head"), path)
    head.require("type", "DNN", None)
    head.require("activate_last", False, None)
    kind = encoder.word("type", "HuBERT")
    config = _config(kind, path, base)
    if normalize is not None:
        config = dataclasses.replace(config, normalize=normalize)
    tensors = held["state_dict"]
    weights = fit(
        {name.removeprefix(ENCODER): tensor for name, tensor in tensors.items() if name not in OWN},
        config,
        FAIRSEQ,
        path=path,
        dropped=DROPPED,
        hint=f"its encoder is read as {kind} {'of the checkpoint given' if base else 'base'}: give base=CHECKPOINT, "
        f"the {kind} that it was trained from",
    )
    settings: dict[str, Any] = {"temperature": loss.number("temp", TEMPERATURE)}
    layer = encoder.whole("use_layer", config.layers)
    if not 1 <= layer <= config.layers:
        raise PluginError(
            f"{path}: its head reads layer {layer}, and the encoder has {config.layers}",
            "only heads on the output of a layer are computed here",
        )
    if layer != config.layers:
        settings["layer"] = layer
    return Checkpoint(
        family="spin",
        format="spin",
        config=config,
        weights=weights,
        extras=head_and_codebook(tensors, OWN, config, path),
        settings=settings,
    )


def head_and_codebook(
    tensors: Mapping[str, Any], names: Mapping[str, str], config: EncoderConfig, path: Path
) -> dict[str, Tensor]:
    """The linear head [C, D] + [C] on the last layer, and the codebook [K, C] that its output is compared with."""
    missing = [name for name in names if name not in tensors]
    if missing:
        raise PluginError(f"{path} lacks {', '.join(missing)}", "get the checkpoint as its makers published it")
    found = {ours: number(tensors[name], name, path) for name, ours in names.items()}
    weight, bias, codebook = found["head.weight"], found["head.bias"], found["codebook.weight"]
    size = bias.shape[0] if bias.ndim == 1 else 0
    if weight.shape != (size, config.width) or codebook.ndim != 2 or codebook.shape[1] != size:
        raise PluginError(
            f"{path}: its head {list(weight.shape)} + {list(bias.shape)} and its codebook {list(codebook.shape)} do "
            f"not fit each other, or an encoder of width {config.width}",
            "get the checkpoint as its makers published it",
        )
    return found


def _inner(values: Any, key: str) -> Mapping[str, Any]:
    inner = values.get(key) if isinstance(values, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _config(kind: str, path: Path, base: Checkpoint | None) -> EncoderConfig:
    if kind not in BASES:
        raise PluginError(
            f"{path} was trained from {shown(kind)}, which is none of {', '.join(BASES)}",
            "write an upstream of your own (upstreams/README.md)",
        )
    family, config = BASES[kind]
    if base is None:
        return config
    if base.family != family:
        raise PluginError(
            f"{path} was trained from {kind}, and the base given is a {base.family} checkpoint",
            f"give base= a {family} checkpoint",
        )
    return base.config
