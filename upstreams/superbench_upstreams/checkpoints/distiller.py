"""DistilHuBERT and its kin, as s3prl's Distiller writes them: {"Config": {"distiller": {...}}, "Distiller": {...}}.

Defaults and names are those of s3prl/upstream/distiller/model.py, DistillerConfig and DistillerModel. There is no
normalisation of the convolutions' output and no mask embedding. `outputs.*` are the heads that predict the teacher's
layers `pred_layer_id` from the last layer [T, D], N of them side by side:

    outputs.0.weight [N H, D], outputs.0.bias [N H]             linear, then GELU, then split into N of width H
    outputs.2.weight [N, H, F], outputs.2.bias [1, 1, N, F]     one linear map each; for N = 1:
    outputs.2.layer.weight [F, H], outputs.2.layer.bias [F]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from superbench.errors import PluginError
from superbench_upstreams.checkpoints.checkpoint import Checkpoint
from superbench_upstreams.checkpoints.fairseq import CONV_LAYERS
from superbench_upstreams.checkpoints.fitting import fit, number
from superbench_upstreams.checkpoints.names import FAIRSEQ
from superbench_upstreams.checkpoints.stated import Stated
from superbench_upstreams.checkpoints.wording import listed, shown
from superbench_upstreams.encoder import EncoderConfig

HEADS = "output_layer."


def read_distiller(held: Mapping[str, Any], path: Path, normalize: bool | None) -> Checkpoint:
    """Read a file of s3prl's Distiller, which is fed waves as they are where `normalize` does not say otherwise."""
    sections, tensors = held["Config"], held["Distiller"]
    values = sections.get("distiller", sections.get("model")) if isinstance(sections, Mapping) else None
    if not isinstance(values, Mapping) or not isinstance(tensors, Mapping):
        raise PluginError(f"{path} does not say what its encoder is", "get the checkpoint as its makers published it")
    stated = Stated(values, path)
    config = _config(stated, normalize=bool(normalize))
    weights = fit(
        {name: tensor for name, tensor in tensors.items() if not name.startswith(HEADS)},
        config,
        FAIRSEQ,
        path=path,
        given={"mask_embedding": torch.zeros(config.width)},
    )
    settings, shapes = _heads(stated, config)
    found = {f"outputs.{n.removeprefix(HEADS)}": number(t, n, path) for n, t in tensors.items() if n.startswith(HEADS)}
    wrong = [name for name in {*found, *shapes} if name not in found or found[name].shape != shapes.get(name)]
    if wrong:
        raise PluginError(
            f"{path}: its prediction heads are not those that it describes: {listed(wrong)}",
            "get the checkpoint as its makers published it",
        )
    return Checkpoint(
        family="distilhubert", format="distiller", config=config, weights=weights, extras=found, settings=settings
    )


def _config(stated: Stated, *, normalize: bool) -> EncoderConfig:
    stated.require("activation_fn", "gelu")
    stated.require("extractor_mode", "default", "layer_norm")
    stated.require("attention_type", "original")
    stated.require("task_emb_type", "expand-last", "self-hidden", "none")  # others put a task's vector into the input
    stated.require("extractor_dropout", 0.0, 0)
    conv_layers = stated.conv_layers("extractor_conv_feature_layers", CONV_LAYERS)
    width = stated.whole("encoder_embed_dim", 768)
    return EncoderConfig(
        conv_layers=conv_layers,
        conv_norm="layer" if stated.word("extractor_mode", "default") == "layer_norm" else "group",
        feature_norm=False,
        projection=conv_layers[-1][0] != width,
        width=width,
        layers=stated.whole("encoder_layers", 1),
        heads=stated.whole("encoder_attention_heads", 12),
        ffn_width=stated.whole("encoder_ffn_embed_dim", 3072),
        norm_first=stated.flag("layer_norm_first", False),
        position_taps=stated.whole("conv_pos", 128),
        position_groups=stated.whole("conv_pos_groups", 16),
        normalize=normalize,
        dropout=stated.number("dropout", 0.1),
        attention_dropout=stated.number("attention_dropout", 0.1),
        activation_dropout=stated.number("activation_dropout", 0.1),
        layerdrop=stated.number("encoder_layerdrop", 0.0),
        conv_grad_scale=max(stated.number("feature_grad_mult", 1.0), 0.0),
    )


def _heads(stated: Stated, config: EncoderConfig) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """The constants of the prediction heads, and the shapes of their tensors."""
    kind = stated.word("out_layer_type", "expand-last")
    count, width = stated.whole("n_tasks", 12), stated.whole("final_dim", 768)
    inner = stated.whole("out_layer_inter_dim", -1)
    inner = inner if inner > 0 else config.width
    layers = stated.values.get("pred_layer_id") or list(range(1, count + 1))
    settings = {
        "task_emb_type": stated.word("task_emb_type", "expand-last"),
        "out_layer_type": kind,
        "pred_layer_id": layers,
        "inner_dim": inner,
        "final_dim": width,
    }
    if kind in ("none", "self-hidden"):
        return settings, {}
    stated.require("out_layer_type", "expand-last", None)
    if not isinstance(layers, list) or len(layers) != count or not all(type(n) is int for n in layers):
        raise PluginError(
            f"{stated.path} states {count} tasks (n_tasks), and predicts the layers {shown(layers)}",
            "get the checkpoint as its makers published it",
        )
    shapes: dict[str, tuple[int, ...]] = {"outputs.0.weight": (inner * count, config.width)}
    shapes["outputs.0.bias"] = (inner * count,)
    if count == 1:
        return settings, shapes | {"outputs.2.layer.weight": (width, inner), "outputs.2.layer.bias": (width,)}
    return settings, shapes | {"outputs.2.weight": (count, inner, width), "outputs.2.bias": (1, 1, count, width)}
