"""Files of fairseq's trainer, and of s3prl's converters: HuBERT, wav2vec 2.0, data2vec and DinoSR.

    fairseq   {"cfg": {"model": {"_name": "hubert", ...}, "task": {"normalize": False, ...}}, "model": ...}
              or, before 2021, {"args": Namespace(arch="wav2vec2", normalize=False, ...), "model": ...}
    s3prl     {"task_cfg": {...}, "model_cfg": {...}, "model_weight": ...}

Defaults are those of fairseq's Wav2Vec2Config (3d262bb2, models/wav2vec/wav2vec2.py) and HubertConfig (models/hubert).
Of DinoSR's own tensors, codebooks are kept as they are stored: running sums, to be divided by their counts.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from superbench.errors import PluginError
from superbench_upstreams.checkpoints.checkpoint import Checkpoint
from superbench_upstreams.checkpoints.fitting import expected, fit, number
from superbench_upstreams.checkpoints.names import FAIRSEQ, belongs, ours
from superbench_upstreams.checkpoints.stated import Stated
from superbench_upstreams.checkpoints.wording import listed, shown
from superbench_upstreams.encoder import EncoderConfig

CONV_LAYERS = "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2"
# Parts that serve pre-training alone.
DROPPED = {
    "hubert": ("label_embs_concat", "final_proj", "target_glu"),
    "wav2vec2": ("quantizer", "project_q", "final_proj", "target_glu"),
    "data2vec": ("final_proj", "_ema"),
    "dinosr": ("final_proj", "_ema", "heads"),
}
FAMILIES = {"hubert": "hubert", "wav2vec2": "wav2vec2", "data2vec_audio": "data2vec", "dinosr": "dinosr"}
CODEBOOK = re.compile(r"_codebook(_cnts|)(\d+)")


def read_fairseq(held: Mapping[str, Any], path: Path, normalize: bool | None) -> Checkpoint:
    """Read a file of fairseq's trainer; `normalize` overrides what the file says."""
    cfg = held.get("cfg")
    if isinstance(cfg, Mapping) and isinstance(cfg.get("model"), Mapping):
        return _read(cfg["model"], cfg.get("task"), held.get("model"), path, form="fairseq", normalize=normalize)
    args = held.get("args")
    if not isinstance(args, Mapping):
        raise PluginError(
            f"{path} looks like a file of fairseq, but has neither cfg nor args to say what its encoder is",
            "get the checkpoint as its makers published it",
        )
    return _read(args, args, held.get("model"), path, form="fairseq", normalize=normalize)


def read_s3prl(held: Mapping[str, Any], path: Path, normalize: bool | None) -> Checkpoint:
    """Read a file of s3prl's converters; `normalize` overrides what the file says."""
    return _read(held["model_cfg"], held["task_cfg"], held["model_weight"], path, form="s3prl", normalize=normalize)


def _read(
    model: Mapping[str, Any], task: Any, tensors: Any, path: Path, *, form: str, normalize: bool | None
) -> Checkpoint:
    if not isinstance(tensors, Mapping) or not isinstance(model, Mapping):
        raise PluginError(f"{path} holds no tensors of a model", "download or copy the file again")
    family = _family(model, tensors, path)
    if normalize is None:
        said = task.get("normalize") if isinstance(task, Mapping) else None
        if not isinstance(said, bool):
            raise PluginError(
                f"{path} does not say whether waveforms are normalised (no task.normalize)",
                "say normalize=true or normalize=false, as the encoder was trained",
            )
        normalize = said
    config = encoder_config(Stated(model, path), normalize=normalize)
    if family in ("data2vec", "dinosr"):
        config = dataclasses.replace(config, projection=True)  # they project whatever the widths
    own = CODEBOOK.fullmatch if family == "dinosr" else lambda name: None
    weights = fit(
        {name: t for name, t in tensors.items() if not own(name)}, config, FAIRSEQ, path=path, dropped=DROPPED[family]
    )
    extras = _teacher(tensors["_ema"], config, path) if tensors.get("_ema") else {}
    if family == "dinosr":
        extras |= _codebooks(tensors, config, path)
    return Checkpoint(family=family, format=form, config=config, weights=weights, extras=extras, settings={})


def _family(model: Mapping[str, Any], tensors: Mapping[str, Any], path: Path) -> str:
    """Which method trained it: by its name, and where old files have none, by what only that method has."""
    said = model.get("_name") or model.get("arch") or ""
    name = said if isinstance(said, str) else shown(said)
    if any(key.startswith(("w2v_encoder.", "encoder.w2v_model.")) for key in tensors) or "_ctc" in name:
        raise PluginError(
            f"{path} is fine-tuned for recognition ({listed([name or 'w2v_encoder'])}), not an encoder as it was "
            "pre-trained",
            "give the pre-trained checkpoint that it was made from",
        )
    if "_codebook0" in tensors:
        return "dinosr"
    if name in FAMILIES:
        return FAMILIES[name]
    marks = {"hubert": ("label_embs_concat",), "data2vec": ("_ema",), "wav2vec2": ("quantizer", "project_q")}
    for family, parts in marks.items():
        if any(belongs(key, parts) for key in tensors):
            return family
    raise PluginError(
        f"{path} is a fairseq model named {shown(name)}, which is none of {', '.join(FAMILIES)}",
        "give a pre-trained checkpoint of one of these, or write an upstream of your own (upstreams/README.md)",
    )


def encoder_config(stated: Stated, *, normalize: bool) -> EncoderConfig:
    """What a model configuration of fairseq or unilm computes; settings that the encoder here lacks are refused."""
    stated.require("activation_fn", "gelu")
    stated.require("extractor_mode", "default", "layer_norm")
    stated.require("layer_type", "transformer", None)
    stated.require("pos_enc_type", "abs", "", None)
    stated.require("attn_type", "", None)
    stated.require("crop_seq_to_multiple", 1, None)
    for key in ("quantize_input", "conv_pos_batch_norm", "no_pos_conv", "deep_norm"):
        stated.require(key, False, None)
    stated.require("expand_attention_head_size", -1, None)
    depth, taps = stated.whole("pos_conv_depth", 1), stated.whole("conv_pos", 128)
    conv_layers, width = stated.conv_layers("conv_feature_layers", CONV_LAYERS), stated.whole("encoder_embed_dim", 768)
    return EncoderConfig(
        conv_layers=conv_layers,
        conv_norm="layer" if stated.word("extractor_mode", "default") == "layer_norm" else "group",
        conv_bias=stated.flag("conv_bias", False),
        projection=conv_layers[-1][0] != width,
        width=width,
        layers=stated.whole("encoder_layers", 12),
        heads=stated.whole("encoder_attention_heads", 12),
        ffn_width=stated.whole("encoder_ffn_embed_dim", 3072),
        norm_first=stated.flag("layer_norm_first", False),
        position_taps=max(3, taps // depth) if depth > 1 else taps,
        position_groups=stated.whole("conv_pos_groups", 16),
        position_depth=depth,
        normalize=normalize,
        input_dropout=stated.number("dropout_input", 0.0),
        dropout=stated.number("dropout", 0.1),
        attention_dropout=stated.number("attention_dropout", 0.1),
        activation_dropout=stated.number("activation_dropout", 0.0),
        layerdrop=stated.number("encoder_layerdrop", 0.0),
        conv_grad_scale=max(stated.number("feature_grad_mult", 1.0), 0.0),
    )


def _teacher(ema: Any, config: EncoderConfig, path: Path) -> dict[str, Tensor]:
    """The teacher's tensors as the encoder names them; most files have those of the transformer alone."""
    if not isinstance(ema, Mapping):
        raise PluginError(f"{path}: its _ema holds no tensors", "download or copy the file again")
    whole = any(name.startswith("encoder.") for name in ema)
    shapes = expected(config, path)
    found, strange = {}, []
    for name, tensor in ema.items():
        part = ours(name if whole else f"encoder.{name}", FAIRSEQ)
        if part in shapes and isinstance(tensor, Tensor) and tensor.shape == shapes[part]:
            found[f"teacher.{part}"] = number(tensor, f"_ema.{name}", path)
        else:
            strange.append(name)
    if strange:
        raise PluginError(
            f"{path}: its teacher (_ema) does not fit the encoder: {listed(strange)}", "get the published checkpoint"
        )
    return found


def _codebooks(tensors: Mapping[str, Any], config: EncoderConfig, path: Path) -> dict[str, Tensor]:
    """DinoSR's heads [K, D] + [K], sums of its codebooks [K, D] and their counts [K], one of each per teacher layer."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if own := CODEBOOK.fullmatch(name):
            found[f"codebook_counts.{own[2]}" if own[1] else f"codebooks.{own[2]}"] = number(tensor, name, path)
        elif name.startswith("heads."):
            found[name] = number(tensor, name, path)
    total = sum(name.startswith("codebooks.") for name in found)
    size = found["codebooks.0"].shape[0] if "codebooks.0" in found else 0
    shapes: dict[str, tuple[int, ...]] = {}
    for k in range(total):
        shapes |= {f"heads.{k}.weight": (size, config.width), f"heads.{k}.bias": (size,)}
        shapes |= {f"codebooks.{k}": (size, config.width), f"codebook_counts.{k}": (size,)}
    wrong = [name for name in {*found, *shapes} if name not in found or found[name].shape != shapes.get(name)]
    if wrong or not total:
        raise PluginError(
            f"{path}: its heads and codebooks do not fit each other: {listed(wrong) or 'there is none'}",
            "get the checkpoint as it was published",
        )
    return found
