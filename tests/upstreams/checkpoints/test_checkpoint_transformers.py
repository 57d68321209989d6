"""Folders of transformers give back the very encoder, whichever way they keep it, and refuse what is not computed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign import CONV, DEEP, GATED, LARGE, random_state, same, small, transformers_names, transformers_settings
from safetensors.torch import save_file
from torch import Tensor

from superbench.errors import PluginError
from superbench_upstreams.checkpoints import read_checkpoint, write_checkpoint
from superbench_upstreams.encoder import EncoderConfig

TYPES = {"hubert": "hubert", "wav2vec2": "wav2vec2", "wavlm": "wavlm", "data2vec": "data2vec-audio"}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "hubert": [{}, LARGE, {"feature_norm": False, "norm_eps": 1e-6}, {"norm_eps": 1e-6, "width": CONV[-1][0]}],
    "wav2vec2": [{}, LARGE],
    "wavlm": [GATED, {**GATED, **LARGE}],
    "data2vec": [DEEP],
}
CASES = [(method, variant) for method, variants in VARIANTS.items() for variant in variants]


def _config(variant: dict[str, Any]) -> EncoderConfig:
    return small(**{**variant, "normalize_eps": 1e-7})


def _folder(folder: Path, method: str, config: EncoderConfig, **changes: Any) -> Path:
    folder.mkdir()
    said = {**transformers_settings(config, TYPES[method]), **changes}
    (folder / "config.json").write_text(json.dumps(said))
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": config.normalize}))
    return folder


def _read(folder: Path, method: str, config: EncoderConfig) -> None:
    checkpoint = read_checkpoint(str(folder), family=method)
    assert (checkpoint.family, checkpoint.format, checkpoint.config) == (method, "transformers", config)
    assert same(checkpoint.weights, random_state(config))
    assert (checkpoint.extras, checkpoint.settings) == ({}, {})
    write_checkpoint(folder / "own", checkpoint)
    again = read_checkpoint(str(folder / "own"), family=method)
    assert again.config == config
    assert same(again.weights, random_state(config))


@pytest.mark.parametrize(("method", "variant"), CASES)
def test_safetensors(tmp_path: Path, method: str, variant: dict[str, Any]) -> None:
    config = _config(variant)
    folder = _folder(tmp_path / "a", method, config)
    save_file(transformers_names(random_state(config), config), folder / "model.safetensors")
    _read(folder, method, config)


@pytest.mark.parametrize(("method", "variant"), CASES)
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards(tmp_path: Path, method: str, variant: dict[str, Any], suffix: str) -> None:
    config = _config(variant)
    folder = _folder(tmp_path / "a", method, config)
    tensors = transformers_names(random_state(config), config, old=suffix == "bin")
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    parts: list[dict[str, Tensor]] = [dict(list(tensors.items())[i::2]) for i in range(2)]
    shards = {}
    for i, part in enumerate(parts, 1):
        file = f"{stem}-{i:05}-of-00002.{suffix}"
        (save_file if suffix == "safetensors" else torch.save)(part, folder / file)
        shards |= dict.fromkeys(part, file)
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    _read(folder, method, config)
    (folder / f"{stem}-00002-of-00002.{suffix}").unlink()
    with pytest.raises(PluginError, match=r"-00002-of-00002.* cannot be read"):
        read_checkpoint(str(folder), family=method)


def test_shards_stay_in_their_folder(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "a", "hubert", _config({}))
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": "../secret.bin"}}))
    with pytest.raises(PluginError, match="no weight_map of files beside it"):
        read_checkpoint(str(folder), family="hubert")


@pytest.mark.parametrize("method", TYPES)
def test_heads_are_left_out(tmp_path: Path, method: str) -> None:
    config = _config(VARIANTS[method][0])
    folder = _folder(tmp_path / "a", method, config)
    prefix = "data2vec_audio." if method == "data2vec" else f"{method}."
    tensors = {prefix + name: t for name, t in transformers_names(random_state(config), config).items()}
    heads = ("lm_head.weight", "quantizer.codevectors", "project_q.bias", "projector.weight", "classifier.bias")
    torch.save({**tensors, **{name: torch.ones(2) for name in heads}}, folder / "pytorch_model.bin")
    _read(folder, method, config)
    torch.save({**tensors, "adapter.weight": torch.ones(2)}, folder / "pytorch_model.bin")
    with pytest.raises(PluginError, match=r"1 unexpected: adapter\.weight"):
        read_checkpoint(str(folder), family=method)


def test_a_mask_embedding_may_be_absent(tmp_path: Path) -> None:
    config = _config({})
    folder = _folder(tmp_path / "a", "hubert", config)
    tensors = transformers_names(random_state(config), config)
    del tensors["masked_spec_embed"]
    save_file(tensors, folder / "model.safetensors")
    checkpoint = read_checkpoint(str(folder), family="hubert")
    assert same(checkpoint.weights, {**random_state(config), "mask_embedding": torch.zeros(16)})
    del tensors["encoder.layer_norm.bias"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(PluginError, match=r"1 missing: norm\.bias"):
        read_checkpoint(str(folder), family="hubert")


def test_transformers_itself_writes_what_is_read(tmp_path: Path) -> None:
    from superbench import torchaudio_loader

    torchaudio_loader.load()  # before anything imports transformers
    transformers = pytest.importorskip("transformers", reason="transformers (the extra 'hf') is not installed")
    config = _config({})
    said = transformers_settings(config, "hubert")
    del said["model_type"]
    model = transformers.HubertForCTC(transformers.HubertConfig(**said, vocab_size=7))
    model.save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    checkpoint = read_checkpoint(str(tmp_path), family="hubert")
    assert checkpoint.config.normalize
    assert torch.equal(checkpoint.weights["norm.weight"], model.hubert.encoder.layer_norm.weight.detach())
    kernel = model.hubert.encoder.pos_conv_embed.conv.weight.detach()
    direction, size = (checkpoint.weights[f"positions.blocks.0.weight_{part}"] for part in "vg")
    torch.testing.assert_close(direction * size / direction.norm(dim=(0, 1), keepdim=True), kernel)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "relu"),
        ("feat_extract_activation", "relu"),
        ("add_adapter", True),
        ("adapter_attn_dim", 16),
        ("conv_pos_batch_norm", True),
        ("feat_extract_norm", "batch"),
        ("conv_dim", [8, 8]),
        ("conv_kernel", 3),
        ("hidden_size", "16"),
    ],
)
def test_settings_that_change_numbers_are_refused_by_name(tmp_path: Path, key: str, value: object) -> None:
    config = _config({})
    folder = _folder(tmp_path / "a", "hubert", config, **{key: value})
    save_file(transformers_names(random_state(config), config), folder / "model.safetensors")
    with pytest.raises(PluginError, match=key):
        read_checkpoint(str(folder), family="hubert")


def test_normalisation_is_stated_or_given(tmp_path: Path) -> None:
    config = _config({})
    folder = _folder(tmp_path / "a", "hubert", config)
    save_file(transformers_names(random_state(config), config), folder / "model.safetensors")
    assert read_checkpoint(str(folder), family="hubert", normalize="true").config.normalize
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(PluginError, match="does not say whether waveforms are normalised") as caught:
        read_checkpoint(str(folder), family="hubert")
    assert "normalize=true or normalize=false" in caught.value.hint
    (folder / "processor_config.json").write_text(json.dumps({"feature_extractor": {"do_normalize": True}}))
    assert read_checkpoint(str(folder), family="hubert").config.normalize
    (folder / "processor_config.json").write_text(json.dumps({"feature_extractor": {"sampling_rate": 8000}}))
    with pytest.raises(PluginError, match="trained at 8000 Hz"):
        read_checkpoint(str(folder), family="hubert", normalize="true")


def test_other_models_are_sent_elsewhere(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "a", "wavlm", _config(GATED))
    with pytest.raises(PluginError, match="is a wavlm checkpoint") as caught:
        read_checkpoint(str(folder), family="hubert")
    assert caught.value.hint == f"use --upstream wavlm:checkpoint={folder}"
    folder = _folder(tmp_path / "b", "wavlm", _config(GATED), model_type="whisper")
    with pytest.raises(PluginError, match="model type 'whisper'") as caught:
        read_checkpoint(str(folder), family="hubert")
    assert "--upstream huggingface" in caught.value.hint


def test_weights_that_cannot_be_read(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "a", "hubert", _config({}))
    with pytest.raises(PluginError, match="holds no weights"):
        read_checkpoint(str(folder), family="hubert")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"x": print}, 2))
    with pytest.raises(
        PluginError, match=r"pytorch_model\.bin keeps its weights in a pickle that holds more"
    ) as caught:
        read_checkpoint(str(folder), family="hubert")
    assert "__builtin__.print" in caught.value.message
    assert "weights_only" not in str(caught.value)
    (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(PluginError, match=r"model\.safetensors is not a whole file of tensors"):
        read_checkpoint(str(folder), family="hubert")
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(PluginError, match=r"config\.json is no JSON"):
        read_checkpoint(str(folder), family="hubert")
