"""Folders of transformers (HuBERT, wav2vec 2.0, WavLM, data2vec), read tensor by tensor, without transformers.

    config.json                                    {"model_type": "hubert", "hidden_size": 768, ...}
    preprocessor_config.json                       {"do_normalize": true, "sampling_rate": 16000}
    model.safetensors, pytorch_model.bin           or, in shards, their *.index.json: {"weight_map": {name: file}}

Defaults are those of the configuration classes of transformers 5.23. Heads of fine-tuned models are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from superbench.errors import PluginError
from superbench_upstreams import huggingface_checkpoint
from superbench_upstreams.checkpoints.checkpoint import Checkpoint
from superbench_upstreams.checkpoints.fitting import fit
from superbench_upstreams.checkpoints.names import TRANSFORMERS
from superbench_upstreams.checkpoints.stated import Stated
from superbench_upstreams.checkpoints.torch_files import read_torch_file
from superbench_upstreams.checkpoints.wording import shown
from superbench_upstreams.convolution import STANDARD
from superbench_upstreams.encoder import SAMPLE_RATE, EncoderConfig

METHODS = {"hubert": "hubert", "wav2vec2": "wav2vec2", "wavlm": "wavlm", "data2vec-audio": "data2vec"}
# Before the names of the encoder's tensors, where a head stands beside it.
PREFIXES = {"hubert": "hubert.", "wav2vec2": "wav2vec2.", "wavlm": "wavlm.", "data2vec-audio": "data2vec_audio."}
HEADS = (
    *("lm_head", "quantizer", "project_hid", "project_q", "final_proj", "label_embeddings_concat"),
    *("projector", "classifier", "layer_weights", "tdnn", "feature_extractor", "objective"),
)
NORMALIZE_EPS = 1e-7  # transformers, Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm
FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def method(folder: Path, upstream: str) -> str:
    """Which method a folder is of, by its model type; `upstream` is who asks."""
    model_type = huggingface_checkpoint.read_settings(folder, upstream=upstream).get("model_type", "")
    if not isinstance(model_type, str) or model_type not in METHODS:
        raise PluginError(
            f"{upstream}: {folder} is of model type {shown(model_type)}, which is none of {', '.join(METHODS)}",
            f"the upstream huggingface may run it: --upstream huggingface:checkpoint={folder}",
        )
    return METHODS[model_type]


def read_transformers(folder: Path, upstream: str, normalize: bool | None) -> Checkpoint:
    """Read a folder for an upstream; `normalize` overrides what its preprocessor says."""
    settings = huggingface_checkpoint.read_settings(folder, upstream=upstream)
    found, prefix = method(folder, upstream), PREFIXES[settings["model_type"]]
    normalize = _normalize(folder, upstream, normalize)
    config = _config(Stated(settings, folder / "config.json"), settings["model_type"], normalize=normalize)
    tensors = _tensors(folder, upstream)
    if any(name.startswith(prefix) for name in tensors):
        heads = {name for name in tensors if not name.startswith(prefix) and name.split(".")[0] in HEADS}
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name not in heads}
    given = {"mask_embedding": torch.zeros(config.width)}  # only training reads it; some checkpoints lack it
    weights = fit(tensors, config, TRANSFORMERS, path=folder, given=given)
    return Checkpoint(family=found, format="transformers", config=config, weights=weights, extras={}, settings={})


def _normalize(folder: Path, upstream: str, given: bool | None) -> bool:
    stated = huggingface_checkpoint.read_preprocessor(folder, upstream=upstream) or {}
    if stated.get("sampling_rate", SAMPLE_RATE) != SAMPLE_RATE:
        raise PluginError(
            f"{folder} was trained at {shown(stated['sampling_rate'])} Hz, and the encoder here hears {SAMPLE_RATE} Hz",
            "give a checkpoint of that rate",
        )
    if given is not None:
        return given
    if not isinstance(stated.get("do_normalize"), bool):
        raise PluginError(
            f"{folder} does not say whether waveforms are normalised (no do_normalize in a preprocessor_config.json)",
            "say normalize=true or normalize=false, as the encoder was trained",
        )
    return bool(stated["do_normalize"])


def _config(stated: Stated, model_type: str, *, normalize: bool) -> EncoderConfig:
    stated.require("hidden_act", "gelu")
    stated.require("feat_extract_activation", "gelu")
    stated.require("add_adapter", False, None)
    stated.require("adapter_attn_dim", None)
    stated.require("conv_pos_batch_norm", False, None)
    stated.require("feat_extract_norm", "group", "layer")
    data2vec = model_type == "data2vec-audio"
    taps, depth = stated.whole("num_conv_pos_embeddings", 5 if data2vec else 128), 1
    if data2vec:
        taps, depth = stated.whole("conv_pos_kernel_size", 19), taps
        if depth < 2:
            raise PluginError(
                f"{stated.path} states num_conv_pos_embeddings: {depth}, and data2vec is computed here with 2 or more",
                "write an upstream of your own (upstreams/README.md)",
            )
    layer = data2vec or stated.word("feat_extract_norm", "group") == "layer"
    return EncoderConfig(
        conv_layers=_conv_layers(stated),
        conv_norm="layer" if layer else "group",
        conv_bias=stated.flag("conv_bias", False),
        feature_norm=stated.flag("feat_proj_layer_norm", True),
        width=stated.whole("hidden_size", 768),
        layers=stated.whole("num_hidden_layers", 12),
        heads=stated.whole("num_attention_heads", 12),
        ffn_width=stated.whole("intermediate_size", 3072),
        norm_first=stated.flag("do_stable_layer_norm", False) and not data2vec,
        position_taps=taps,
        position_groups=stated.whole("num_conv_pos_embedding_groups", 16),
        position_depth=depth,
        relative_buckets=stated.whole("num_buckets", 320) if model_type == "wavlm" else 0,
        relative_distance=stated.whole("max_bucket_distance", 800),
        normalize=normalize,
        normalize_eps=NORMALIZE_EPS,
        norm_eps=stated.number("layer_norm_eps", 1e-5),
        input_dropout=stated.number("feat_proj_dropout", 0.0),
        dropout=stated.number("hidden_dropout", 0.1),
        attention_dropout=stated.number("attention_dropout", 0.1),
        activation_dropout=stated.number("activation_dropout", 0.1),
        layerdrop=stated.number("layerdrop", 0.1),
    )


def _conv_layers(stated: Stated) -> tuple[tuple[int, int, int], ...]:
    columns = [
        stated.values.get(key) or [layer[i] for layer in STANDARD]
        for i, key in enumerate(("conv_dim", "conv_kernel", "conv_stride"))
    ]
    if not all(isinstance(column, list) for column in columns) or len({len(column) for column in columns}) != 1:
        raise PluginError(
            f"{stated.path}: conv_dim, conv_kernel and conv_stride are not three lists of one length",
            "download or copy the checkpoint again",
        )
    return Stated({"conv_layers": list(zip(*columns, strict=True))}, stated.path).conv_layers("conv_layers", "")


def _tensors(folder: Path, upstream: str) -> dict[str, torch.Tensor]:
    found = next((name for name in FILES if (folder / name).is_file()), None)
    if found is None:
        raise PluginError(f"{folder} holds no weights: none of {', '.join(FILES)}", "copy or download all its files")
    if not found.endswith(".index.json"):
        return _file(folder / found)
    shards = huggingface_checkpoint.read_json(folder / found, upstream=upstream).get("weight_map")
    if not isinstance(shards, Mapping) or not all(isinstance(s, str) and Path(s).name == s for s in shards.values()):
        raise PluginError(f"{folder / found} has no weight_map of files beside it", "download the checkpoint again")
    tensors: dict[str, torch.Tensor] = {}
    for shard in sorted(set(shards.values())):
        tensors |= _file(folder / shard)
    return tensors


def _file(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        return read_torch_file(path)
    except OSError as error:
        raise PluginError(f"{path} cannot be read: {error}", "copy or download all files of the checkpoint") from error
    except SafetensorError as error:
        raise PluginError(
            f"{path} is not a whole file of tensors: {error}", "copy or download the checkpoint again"
        ) from error
