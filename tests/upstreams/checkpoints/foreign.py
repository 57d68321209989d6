"""Writes small random encoders the way other programs do: their names, their configurations, their pickled classes."""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from superbench_upstreams.encoder import Encoder, EncoderConfig

CONV = ((8, 10, 5), (8, 3, 2), (8, 3, 2), (8, 2, 2))
SMALL: dict[str, Any] = {
    "conv_layers": CONV,
    "width": 16,
    "layers": 2,
    "heads": 2,
    "ffn_width": 24,
    "position_taps": 8,
    "position_groups": 2,
    "input_dropout": 0.1,
    "dropout": 0.2,
    "attention_dropout": 0.3,
    "activation_dropout": 0.4,
    "layerdrop": 0.05,
}
LARGE = {"conv_norm": "layer", "conv_bias": True, "norm_first": True, "normalize": True}
DEEP = {"conv_norm": "layer", "position_depth": 3, "position_taps": 5, "normalize": True}
GATED = {"relative_buckets": 8, "relative_distance": 20}


def small(**changes: Any) -> EncoderConfig:
    return EncoderConfig(**{**SMALL, **changes})


def random_state(config: EncoderConfig, seed: int = 0) -> dict[str, Tensor]:
    """A state of `Encoder(config)` in which no two tensors are alike."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        shapes = {name: tensor.shape for name, tensor in Encoder(config).state_dict().items()}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


FAIRSEQ = {
    "mask_embedding": "mask_emb",
    "feature_norm.": "layer_norm.",
    "projection.": "post_extract_proj.",
    "norm.": "encoder.layer_norm.",
    "relative_positions.": "encoder.layers.0.self_attn.relative_attention_bias.",
}
FAIRSEQ_LAYER = {
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.out_proj",
    "attention.gate_scale": "self_attn.grep_a",
    "attention.gate": "self_attn.grep_linear",
    "attention_norm": "self_attn_layer_norm",
    "ffn_in": "fc1",
    "ffn_out": "fc2",
    "ffn_norm": "final_layer_norm",
}
TRANSFORMERS = {
    "mask_embedding": "masked_spec_embed",
    "feature_norm.": "feature_projection.layer_norm.",
    "projection.": "feature_projection.projection.",
    "norm.": "encoder.layer_norm.",
    "relative_positions.": "encoder.layers.0.attention.rel_attn_embed.",
}
TRANSFORMERS_LAYER = {
    "attention.query": "attention.q_proj",
    "attention.key": "attention.k_proj",
    "attention.value": "attention.v_proj",
    "attention.output": "attention.out_proj",
    "attention.gate_scale": "attention.gru_rel_pos_const",
    "attention.gate": "attention.gru_rel_pos_linear",
    "attention_norm": "layer_norm",
    "ffn_in": "feed_forward.intermediate_dense",
    "ffn_out": "feed_forward.output_dense",
    "ffn_norm": "final_layer_norm",
}


def _renamed(name: str, parts: dict[str, str], inner: dict[str, str]) -> str:
    for ours, theirs in parts.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    head, index, rest = name.split(".", 2)
    assert head == "layers"
    for ours, theirs in inner.items():
        if rest == ours or rest.startswith(f"{ours}."):
            return f"encoder.layers.{index}.{theirs}{rest.removeprefix(ours)}"
    raise AssertionError(name)


def fairseq_names(state: dict[str, Tensor], config: EncoderConfig) -> dict[str, Tensor]:
    def rename(name: str) -> str:
        if name.startswith("convolutions."):
            _, _, index, *rest = name.split(".")
            norm = "2.1" if config.conv_norm == "layer" else "2"
            return f"feature_extractor.conv_layers.{index}.{norm if rest[0] == 'norm' else '0'}.{rest[-1]}"
        if name.startswith("positions."):
            _, _, index, rest = name.split(".")
            return f"encoder.pos_conv.{index}.{'0.' if config.position_depth > 1 else ''}{rest}"
        return _renamed(name, FAIRSEQ, FAIRSEQ_LAYER)

    return {rename(name): tensor.clone() for name, tensor in state.items()}


def transformers_names(state: dict[str, Tensor], config: EncoderConfig, *, old: bool = False) -> dict[str, Tensor]:
    """`old`: with weight_g and weight_v, as before parametrizations."""
    normed = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}

    def rename(name: str) -> str:
        if name.startswith("convolutions."):
            _, _, index, *rest = name.split(".")
            return f"feature_extractor.conv_layers.{index}.{'layer_norm' if rest[0] == 'norm' else 'conv'}.{rest[-1]}"
        if name.startswith("positions."):
            _, _, index, rest = name.split(".")
            if config.position_depth > 1:
                return f"encoder.pos_conv_embed.layers.{index}.conv.{rest}"
            return f"encoder.pos_conv_embed.conv.{rest if old else normed.get(rest, rest)}"
        return _renamed(name, TRANSFORMERS, TRANSFORMERS_LAYER)

    return {rename(name): tensor.clone() for name, tensor in state.items()}


def fairseq_settings(config: EncoderConfig, name: str) -> dict[str, Any]:
    """cfg.model, as fairseq and unilm write it."""
    return {
        "_name": name,
        "extractor_mode": "layer_norm" if config.conv_norm == "layer" else "default",
        "conv_feature_layers": "[(8, 10, 5)] + 2 * [(8,3,2)] + [(8,2,2)]",
        "conv_bias": config.conv_bias,
        "encoder_layers": config.layers,
        "encoder_embed_dim": config.width,
        "encoder_ffn_embed_dim": config.ffn_width,
        "encoder_attention_heads": config.heads,
        "activation_fn": "gelu",
        "layer_norm_first": config.norm_first,
        "conv_pos": config.position_taps * config.position_depth,
        "conv_pos_groups": config.position_groups,
        **({"pos_conv_depth": config.position_depth} if config.position_depth > 1 else {}),
        "dropout_input": config.input_dropout,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
        "encoder_layerdrop": config.layerdrop,
        "feature_grad_mult": config.conv_grad_scale,
    }


def wavlm_settings(config: EncoderConfig) -> dict[str, Any]:
    said = fairseq_settings(config, "")
    del said["_name"]
    gated = {"relative_position_embedding": True, "gru_rel_pos": True}
    sizes = {"num_buckets": config.relative_buckets, "max_distance": config.relative_distance}
    return {**said, **gated, **sizes, "normalize": config.normalize}


def transformers_settings(config: EncoderConfig, model_type: str) -> dict[str, Any]:
    """config.json."""
    said: dict[str, Any] = {
        "model_type": model_type,
        "conv_dim": [layer[0] for layer in config.conv_layers],
        "conv_kernel": [layer[1] for layer in config.conv_layers],
        "conv_stride": [layer[2] for layer in config.conv_layers],
        "conv_bias": config.conv_bias,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.ffn_width,
        "num_conv_pos_embedding_groups": config.position_groups,
        "feat_proj_dropout": config.input_dropout,
        "hidden_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
        "layerdrop": config.layerdrop,
        "layer_norm_eps": config.norm_eps,
    }
    if model_type == "data2vec-audio":
        depth, taps = config.position_depth, config.position_taps
        return {**said, "num_conv_pos_embeddings": depth, "conv_pos_kernel_size": taps}
    said |= {"feat_extract_norm": config.conv_norm, "do_stable_layer_norm": config.norm_first}
    said |= {"num_conv_pos_embeddings": config.position_taps}
    if model_type == "hubert":
        said |= {"feat_proj_layer_norm": config.feature_norm}
    if model_type == "wavlm":
        said |= {"num_buckets": config.relative_buckets, "max_bucket_distance": config.relative_distance}
    return said


@contextlib.contextmanager
def pretending(*names: str) -> Iterator[dict[str, type]]:
    """Classes under names such as "omegaconf.nodes.AnyNode", which can be pickled as long as this lasts."""
    made, added = {}, []
    for full in names:
        module, _, name = full.rpartition(".")
        made[full] = type(name, (), {"__module__": module})
        for length in range(1, module.count(".") + 2):
            part = ".".join(module.split(".")[:length])
            if part not in sys.modules:
                sys.modules[part] = types.ModuleType(part)
                added.append(part)
        setattr(sys.modules[module], name, made[full])
    try:
        yield made
    finally:
        for part in added:
            del sys.modules[part]


OMEGACONF = (
    *("omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig", "omegaconf.nodes.AnyNode"),
    *("omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata"),
)


def as_omegaconf(value: Any, classes: dict[str, type], parent: Any = None) -> Any:
    """`value` as omegaconf 2.0 to 2.4 keep it: nodes that know their parent, under a metadata of types."""
    dict_config, list_config, any_node, container, metadata = (classes[name] for name in OMEGACONF)
    kind = dict_config if isinstance(value, dict) else list_config if isinstance(value, list) else any_node
    node = kind()
    said = (metadata if kind is any_node else container)()
    said.__dict__ = {
        "ref_type": Any,
        "object_type": Any if value is None else type(value),
        "optional": True,
        "key": None,
        "flags": {},
    }
    if isinstance(value, dict):
        content: Any = {key: as_omegaconf(inner, classes, node) for key, inner in value.items()}
    elif isinstance(value, list):
        content = [as_omegaconf(inner, classes, node) for inner in value]
    else:
        content = value
    node.__dict__ = {"_metadata": said, "_parent": parent, "_val" if kind is any_node else "_content": content}
    return node
