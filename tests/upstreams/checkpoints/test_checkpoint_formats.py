"""WavLM, Spin, R-Spin and Distiller files give back the very encoder, and what is the method's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign import (
    GATED,
    LARGE,
    fairseq_names,
    fairseq_settings,
    pretending,
    random_state,
    same,
    small,
    wavlm_settings,
)

from superbench.errors import PluginError, UsageError
from superbench_upstreams.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from superbench_upstreams.checkpoints.spin import HUBERT_BASE, WAVLM_BASE
from superbench_upstreams.encoder import EncoderConfig

HEAD = {"weight": torch.arange(64.0).view(4, 16), "bias": torch.ones(4)}
CODEBOOK = torch.arange(24.0).view(6, 4)


def _round_trip(checkpoint: Checkpoint, folder: Path) -> None:
    write_checkpoint(folder, checkpoint)
    again = read_checkpoint(str(folder), family=checkpoint.family)
    assert (again.config, again.settings) == (checkpoint.config, checkpoint.settings)
    assert same(again.weights, checkpoint.weights)
    assert same(again.extras, checkpoint.extras)


def _unilm(path: Path, config: EncoderConfig, **changes: object) -> str:
    cfg = {**wavlm_settings(config), **changes}
    torch.save({"cfg": cfg, "model": fairseq_names(random_state(config), config)}, path)
    return str(path)


@pytest.mark.parametrize("variant", [{}, {**LARGE, "conv_bias": False}], ids=["base", "large"])
def test_wavlm(tmp_path: Path, variant: dict[str, Any]) -> None:
    config = small(**GATED, **variant)
    checkpoint = read_checkpoint(_unilm(tmp_path / "a.pt", config), family="wavlm")
    assert (checkpoint.config, checkpoint.format, checkpoint.extras) == (config, "unilm", {})
    assert same(checkpoint.weights, random_state(config))
    _round_trip(checkpoint, tmp_path / "own")


def test_wavlm_without_its_gate_is_refused(tmp_path: Path) -> None:
    path = _unilm(tmp_path / "a.pt", small(**GATED), gru_rel_pos=False)
    with pytest.raises(PluginError, match="without gru_rel_pos"):
        read_checkpoint(path, family="wavlm")
    path = _unilm(tmp_path / "b.pt", small(**GATED), relative_position_embedding=False)
    with pytest.raises(PluginError, match="no relative_position_embedding"):
        read_checkpoint(path, family="wavlm")


def _spin(path: Path, config: EncoderConfig, kind: str, **changes: Any) -> str:
    state = {f"encoder.model.{name}": t for name, t in fairseq_names(random_state(config), config).items()}
    if kind == "HuBERT":
        state |= {"encoder.model.label_embs_concat": torch.ones(5, 4), "encoder.model.final_proj.weight": torch.ones(2)}
    state |= {f"pred_head.layers.0.{name}": tensor for name, tensor in HEAD.items()}
    state |= {"loss_module.codebook.weight": CODEBOOK}
    head = {"type": "DNN", "activate_last": changes.pop("activate_last", False)}
    encoder = {"type": kind, "use_layer": 2, "normalize": False, "feat_select": "x", **changes}
    model = {"encoder": encoder, "pred_head": head, "loss": {"temp": 0.25, "l2_norm": True}}
    # As Lightning 1.x wrote it: callbacks by their class, hyperparameters in a dictionary of its own.
    names = ("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",)
    with pretending(*names) as classes:
        held = {
            "epoch": 0,
            "pytorch-lightning_version": "1.9.0",
            "state_dict": state,
            "callbacks": {classes[names[0]]: {"best": None}},
            "hyper_parameters": {"data": {}, "model": model},
        }
        torch.save(held, path)
    return str(path)


def _hubert(path: Path, config: EncoderConfig) -> str:
    held = {"cfg": {"model": fairseq_settings(config, "hubert"), "task": {"normalize": config.normalize}}}
    model = {**fairseq_names(random_state(config, 1), config), "label_embs_concat": torch.ones(1)}
    torch.save({**held, "model": model}, path)
    return str(path)


@pytest.mark.parametrize("kind", ["HuBERT", "WavLM"])
def test_spin(tmp_path: Path, kind: str) -> None:
    config = small(**(GATED if kind == "WavLM" else {}))
    base = (_unilm if kind == "WavLM" else _hubert)(tmp_path / "base.pt", config)
    path = _spin(tmp_path / "a.ckpt", config, kind)
    checkpoint = read_checkpoint(path, family="spin", base=base)
    assert (checkpoint.family, checkpoint.format, checkpoint.config) == ("spin", "spin", config)
    assert checkpoint.settings == {"temperature": 0.25}
    assert same(checkpoint.weights, random_state(config))  # the file's own, not those of its base
    own = {"head.weight": HEAD["weight"], "head.bias": HEAD["bias"], "codebook.weight": CODEBOOK}
    assert same(checkpoint.extras, own)
    _round_trip(checkpoint, tmp_path / "own")
    again = read_checkpoint(path, family="spin", base=base, normalize="true")
    assert again.config.normalize


def test_spin_may_read_an_inner_layer(tmp_path: Path) -> None:
    config = small()
    base = _hubert(tmp_path / "base.pt", config)
    checkpoint = read_checkpoint(_spin(tmp_path / "a.ckpt", config, "HuBERT", use_layer=1), family="spin", base=base)
    assert checkpoint.settings == {"temperature": 0.25, "layer": 1}
    with pytest.raises(PluginError, match="reads layer 3, and the encoder has 2"):
        read_checkpoint(_spin(tmp_path / "b.ckpt", config, "HuBERT", use_layer=3), family="spin", base=base)


@pytest.mark.parametrize("change", [{"normalize": True}, {"feat_select": "ffn"}, {"activate_last": True}])
def test_spin_refuses_what_it_does_not_compute(tmp_path: Path, change: dict[str, Any]) -> None:
    config = small()
    path = _spin(tmp_path / "a.ckpt", config, "HuBERT", **change)
    with pytest.raises(PluginError, match=next(iter(change))):
        read_checkpoint(path, family="spin", base=_hubert(tmp_path / "base.pt", config))


def test_published_spin_files_are_of_base_size() -> None:
    training = {"input_dropout": 0.1, "dropout": 0.1, "attention_dropout": 0.1, "layerdrop": 0.05}
    assert EncoderConfig(**training, conv_grad_scale=0.1) == HUBERT_BASE
    gated = {"relative_buckets": 320, "relative_distance": 800}
    assert EncoderConfig(**training, conv_grad_scale=0.1, **gated) == WAVLM_BASE


def _rspin(path: Path, config: EncoderConfig, **cfg: int) -> str:
    state = {f"encoder.{name}": t for name, t in fairseq_names(random_state(config), config).items()}
    state |= {f"pred_head.{name}": tensor for name, tensor in HEAD.items()} | {"codebook.weight": CODEBOOK}
    torch.save({"cfg": {"codebook_dim": 4, "codebook_size": 6, **cfg}, "state_dict": state}, path)
    return str(path)


def test_rspin(tmp_path: Path) -> None:
    config = small(**GATED)
    (tmp_path / "encoder.json").write_text(json.dumps(wavlm_settings(config)))
    path = _rspin(tmp_path / "a.pt", config)
    checkpoint = read_checkpoint(path, family="rspin", config=str(tmp_path / "encoder.json"))
    assert (checkpoint.family, checkpoint.format, checkpoint.config) == ("rspin", "rspin", config)
    assert same(checkpoint.weights, random_state(config))
    assert same(
        checkpoint.extras, {"head.weight": HEAD["weight"], "head.bias": HEAD["bias"], "codebook.weight": CODEBOOK}
    )
    _round_trip(checkpoint, tmp_path / "own")
    with pytest.raises(PluginError, match="of another shape") as caught:
        read_checkpoint(path, family="rspin")
    assert "config=FILE" in caught.value.hint
    wrong = _rspin(tmp_path / "b.pt", config, codebook_size=7)
    with pytest.raises(PluginError, match="states a codebook of"):
        read_checkpoint(wrong, family="rspin", config=str(tmp_path / "encoder.json"))


@pytest.mark.parametrize("text", ["no json", "[1]", '{"num_buckets": "many", "relative_position_embedding": true}'])
def test_rspin_with_a_wrong_configuration(tmp_path: Path, text: str) -> None:
    (tmp_path / "encoder.json").write_text(text)
    with pytest.raises(PluginError, match=r"encoder\.json"):
        read_checkpoint(
            _rspin(tmp_path / "a.pt", small(**GATED)), family="rspin", config=str(tmp_path / "encoder.json")
        )
    with pytest.raises(PluginError, match="cannot be read"):
        read_checkpoint(_rspin(tmp_path / "a.pt", small(**GATED)), family="rspin", config=str(tmp_path / "none.json"))


DISTILLED = {"feature_norm": False, "input_dropout": 0.0, "conv_grad_scale": 0.1}


def _distiller(path: Path, config: EncoderConfig, layers: list[int], **changes: object) -> str:
    state = fairseq_names(random_state(config), config)
    del state["mask_emb"]
    count = len(layers)
    state |= {"output_layer.0.weight": torch.ones(16 * count, 16), "output_layer.0.bias": torch.ones(16 * count)}
    if count > 1:
        state |= {
            "output_layer.2.weight": torch.ones(count, 16, 20),
            "output_layer.2.bias": torch.ones(1, 1, count, 20),
        }
    else:
        state |= {"output_layer.2.layer.weight": torch.ones(20, 16), "output_layer.2.layer.bias": torch.ones(20)}
    said = fairseq_settings(config, "")
    said["extractor_conv_feature_layers"] = said.pop("conv_feature_layers")
    for key in ("_name", "dropout_input", "conv_bias"):
        del said[key]
    heads = {"n_tasks": count, "pred_layer_id": layers, "final_dim": 20, "out_layer_type": "expand-last"}
    values = {**said, **heads, "task_emb_type": "expand-last", "loss_type": "l1", **changes}
    held = {"Config": {"distiller": values, "teacher": {"model": "hubert_base"}}, "Distiller": state, "Step": 200000}
    torch.save(held, path)
    return str(path)


@pytest.mark.parametrize("layers", [[4, 8, 12], [12]])
def test_distilhubert(tmp_path: Path, layers: list[int]) -> None:
    config = small(**DISTILLED)
    checkpoint = read_checkpoint(_distiller(tmp_path / "a.ckpt", config, layers), family="distilhubert")
    assert (checkpoint.family, checkpoint.format, checkpoint.config) == ("distilhubert", "distiller", config)
    assert same(checkpoint.weights, {**random_state(config), "mask_embedding": torch.zeros(16)})
    assert "feature_norm.weight" not in checkpoint.weights
    assert checkpoint.settings == {
        "task_emb_type": "expand-last",
        "out_layer_type": "expand-last",
        "pred_layer_id": layers,
        "inner_dim": 16,
        "final_dim": 20,
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in checkpoint.extras.items()}
    first = {"outputs.0.weight": (16 * len(layers), 16), "outputs.0.bias": (16 * len(layers),)}
    if len(layers) > 1:
        assert shapes == {**first, "outputs.2.weight": (3, 16, 20), "outputs.2.bias": (1, 1, 3, 20)}
    else:
        assert shapes == {**first, "outputs.2.layer.weight": (20, 16), "outputs.2.layer.bias": (20,)}
    _round_trip(checkpoint, tmp_path / "own")


@pytest.mark.parametrize(
    ("key", "value"),
    [("task_emb_type", "add"), ("attention_type", "sparse"), ("activation_fn", "relu"), ("out_layer_type", "other")],
)
def test_distillers_of_another_kind_are_refused_by_name(tmp_path: Path, key: str, value: str) -> None:
    path = _distiller(tmp_path / "a.ckpt", small(**DISTILLED), [4, 8], **{key: value})
    with pytest.raises(PluginError, match=key):
        read_checkpoint(path, family="distilhubert")


def test_distillers_heads_must_be_those_described(tmp_path: Path) -> None:
    path = _distiller(tmp_path / "a.ckpt", small(**DISTILLED), [4, 8], final_dim=21)
    with pytest.raises(PluginError, match=r"prediction heads are not those that it describes: outputs\.2\.bias"):
        read_checkpoint(path, family="distilhubert")
    path = _distiller(tmp_path / "b.ckpt", small(**DISTILLED), [4, 8], n_tasks=3)
    with pytest.raises(PluginError, match="states 3 tasks"):
        read_checkpoint(path, family="distilhubert")


def test_options_of_one_format_are_refused_by_the_others(tmp_path: Path) -> None:
    config = small(**GATED)
    wavlm, spin = _unilm(tmp_path / "a.pt", config), _spin(tmp_path / "a.ckpt", config, "WavLM")
    with pytest.raises(UsageError, match="base="):
        read_checkpoint(wavlm, family="wavlm", base=wavlm)
    with pytest.raises(UsageError, match="config="):
        read_checkpoint(spin, family="spin", config="x.json")
    with pytest.raises(UsageError, match="base="):
        read_checkpoint(_rspin(tmp_path / "b.pt", config), family="rspin", base=wavlm)
    with pytest.raises(PluginError, match="is a spin checkpoint") as caught:
        read_checkpoint(spin, family="hubert")
    assert caught.value.hint == f"use --upstream spin:checkpoint={spin}"
    with pytest.raises(PluginError, match="is a wavlm checkpoint"):
        read_checkpoint(wavlm, family="hubert")
