"""fairseq's trainer files of all ages, and s3prl's, give back the very encoder that was written into them."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign import (
    DEEP,
    LARGE,
    OMEGACONF,
    as_omegaconf,
    fairseq_names,
    fairseq_settings,
    pretending,
    random_state,
    same,
    small,
)
from torch import Tensor

from superbench.errors import NumericalError, PluginError
from superbench_upstreams.checkpoints import read_checkpoint
from superbench_upstreams.encoder import EncoderConfig

OWN_KEYS = {
    "hubert": ("label_embs_concat", "final_proj.weight", "final_proj.bias"),
    "wav2vec2": (
        "quantizer.vars",
        "quantizer.weight_proj.weight",
        "project_q.weight",
        "project_q.bias",
        "final_proj.bias",
    ),
    "data2vec": ("final_proj.0.weight", "final_proj.2.bias"),
    "dinosr": (),
}
NAMES = {"hubert": "hubert", "wav2vec2": "wav2vec2", "data2vec": "data2vec_audio", "dinosr": "dinosr"}


def _model(config: EncoderConfig, method: str = "hubert") -> dict[str, Tensor]:
    own = {key: torch.ones(3, 2) for key in OWN_KEYS[method]}
    return OrderedDict({**fairseq_names(random_state(config), config), **own})


def _save(path: Path, model: Any, settings: dict[str, Any], *, normalize: object = False) -> str:
    cfg = {"model": settings, "task": {"_name": "audio_pretraining", "normalize": normalize}}
    torch.save({"args": None, "cfg": cfg, "model": model, "last_optimizer_state": None}, path)
    return str(path)


def _refused(path: str, method: str = "hubert") -> PluginError:
    with pytest.raises(PluginError) as caught:
        read_checkpoint(path, family=method)
    assert path in caught.value.message
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("variant", [{}, LARGE], ids=["base", "large"])
@pytest.mark.parametrize("method", ["hubert", "wav2vec2"])
def test_trainer_files(tmp_path: Path, method: str, variant: dict[str, Any], zipped: bool) -> None:
    config = small(**variant)
    cfg = {"model": fairseq_settings(config, NAMES[method]), "task": {"normalize": config.normalize}}
    held = {"args": None, "cfg": cfg, "model": _model(config, method)}
    torch.save(held, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(str(tmp_path / "a.pt"), family=method)
    assert (checkpoint.config, checkpoint.format, checkpoint.extras) == (config, "fairseq", {})
    assert same(checkpoint.weights, random_state(config))


@pytest.mark.parametrize("method", ["data2vec", "dinosr"])
def test_teachers_are_kept_apart(tmp_path: Path, method: str) -> None:
    config = small(**DEEP)
    teacher = {n: t for n, t in fairseq_names(random_state(config, 1), config).items() if n.startswith("encoder.")}
    model: dict[str, Any] = {
        **_model(config, method),
        "_ema": {n.removeprefix("encoder."): t for n, t in teacher.items()},
    }
    if method == "dinosr":
        model |= {"heads.0.weight": torch.ones(5, 16), "heads.0.bias": torch.ones(5)}
        model |= {"_codebook0": torch.full((5, 16), 3.0), "_codebook_cnts0": torch.full((5,), 2.0)}
    path = _save(tmp_path / "a.pt", model, fairseq_settings(config, NAMES[method]), normalize=True)
    checkpoint = read_checkpoint(path, family=method)
    assert checkpoint.config == config
    assert same(checkpoint.weights, random_state(config))
    extras = checkpoint.extras
    theirs = {n: t for n, t in random_state(config, 1).items() if n.startswith(("layers.", "positions.", "norm."))}
    assert same({n.removeprefix("teacher."): t for n, t in extras.items() if n.startswith("teacher.")}, theirs)
    if method == "dinosr":
        own = {n: t for n, t in extras.items() if not n.startswith("teacher.")}
        assert own.keys() == {"heads.0.weight", "heads.0.bias", "codebooks.0", "codebook_counts.0"}
        assert torch.equal(extras["codebooks.0"], model["_codebook0"])
        del model["_codebook_cnts0"]
        assert (
            "codebook_counts.0"
            in _refused(_save(tmp_path / "b.pt", model, fairseq_settings(config, "dinosr")), "dinosr").message
        )


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_before_2021_with_a_namespace(tmp_path: Path, zipped: bool) -> None:
    """They lack what came later; what they lack has fairseq's default."""
    config = small(position_taps=128, conv_layers=((512, 10, 5), *((512, 3, 2),) * 4, *((512, 2, 2),) * 2))
    said = fairseq_settings(config, "wav2vec2")
    for key in ("_name", "conv_pos", "conv_bias", "extractor_mode", "layer_norm_first", "conv_feature_layers"):
        del said[key]
    args = argparse.Namespace(arch="wav2vec2", task="audio_pretraining", normalize=False, lr=[0.0005], **said)
    held = {"args": args, "model": _model(config, "wav2vec2")}
    torch.save(held, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    upgraded = {"cfg": {"model": args, "task": args}, "model": held["model"]}
    torch.save(upgraded, tmp_path / "b.pt", _use_new_zipfile_serialization=zipped)
    for file in ("a.pt", "b.pt"):
        checkpoint = read_checkpoint(str(tmp_path / file), family="wav2vec2")
        assert checkpoint.config == config
        assert same(checkpoint.weights, random_state(config))


@pytest.mark.parametrize("zipped", [True, False])
def test_files_with_omegaconf(tmp_path: Path, zipped: bool) -> None:
    config = small(**LARGE)
    cfg = {
        "model": {**fairseq_settings(config, "hubert"), "latent_temp": [2, 0.5], "label_rate": "${task.label_rate}"},
        "task": {"normalize": True, "labels": None},
    }
    with pretending(*OMEGACONF) as classes:
        node = as_omegaconf(cfg, classes)
        held = {"args": None, "cfg": node, "model": _model(config)}
        torch.save(held, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(str(tmp_path / "a.pt"), family="hubert")
    assert checkpoint.config == config
    assert same(checkpoint.weights, random_state(config))


def test_files_with_dictionaries_enumerations_and_paths(tmp_path: Path) -> None:
    config = small()
    known = ("fairseq.data.dictionary.Dictionary", "fairseq.dataclass.constants.Choices")
    with pretending(*known) as classes:
        dictionary = classes[known[0]]()
        dictionary.__dict__ = {"symbols": ["<s>", "0"], "count": [1, 1], "indices": {"<s>": 0, "0": 1}}

        class Choices(str):
            __module__ = "fairseq.dataclass.constants"
            __qualname__ = "Choices"

            def __reduce__(self) -> Any:
                return Choices, (str(self),)

        import sys

        sys.modules["fairseq.dataclass.constants"].Choices = Choices
        said = {**fairseq_settings(config, "hubert"), "extractor_mode": Choices("default")}
        cfg = {"model": said, "task": {"normalize": False, "data": tmp_path}}
        held = {"cfg": cfg, "model": _model(config), "task_state": {"dictionaries": [dictionary]}}
        torch.save(held, tmp_path / "a.pt")
    checkpoint = read_checkpoint(str(tmp_path / "a.pt"), family="hubert")
    assert checkpoint.config == config
    assert same(checkpoint.weights, random_state(config))


@pytest.mark.parametrize("method", ["hubert", "wav2vec2"])
def test_files_of_s3prl(tmp_path: Path, method: str) -> None:
    config = small()
    held = {
        "task_cfg": {"normalize": False},
        "model_cfg": fairseq_settings(config, NAMES[method]),
        "model_weight": _model(config, method),
        "dictionaries_symbols": [["<s>"]],
    }
    torch.save(held, tmp_path / "a.pt")
    checkpoint = read_checkpoint(str(tmp_path / "a.pt"), family=method)
    assert (checkpoint.config, checkpoint.format) == (config, "s3prl")
    assert same(checkpoint.weights, random_state(config))


def test_half_precision_is_widened(tmp_path: Path) -> None:
    config = small()
    model = {name: tensor.half() for name, tensor in _model(config).items()}
    checkpoint = read_checkpoint(_save(tmp_path / "a.pt", model, fairseq_settings(config, "hubert")), family="hubert")
    assert same(checkpoint.weights, {n: t.half().float() for n, t in random_state(config).items()})


def test_a_weight_that_is_no_number_is_named(tmp_path: Path) -> None:
    config = small()
    model = _model(config)
    model["encoder.layers.1.fc2.bias"][3] = float("nan")
    with pytest.raises(NumericalError, match=r"layers\.1\.ffn_out\.bias holds a NaN"):
        read_checkpoint(_save(tmp_path / "a.pt", model, fairseq_settings(config, "hubert")), family="hubert")


def test_every_key_is_accounted_for(tmp_path: Path) -> None:
    config = small()
    said = fairseq_settings(config, "hubert")
    assert (
        "1 unexpected: adapter.weight"
        in _refused(_save(tmp_path / "a.pt", {**_model(config), "adapter.weight": torch.ones(1)}, said)).message
    )
    lacking = {name: tensor for name, tensor in _model(config).items() if name != "mask_emb"}
    assert "1 missing: mask_embedding" in _refused(_save(tmp_path / "b.pt", lacking, said)).message
    shrunk = {**_model(config), "layer_norm.bias": torch.ones(7)}
    assert "feature_norm.bias [7], not [8]" in _refused(_save(tmp_path / "c.pt", shrunk, said)).message
    deeper = {**said, "encoder_layers": 3}
    assert "16 missing: layers.2." in _refused(_save(tmp_path / "d.pt", _model(config), deeper)).message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation_fn", "relu"),
        ("layer_type", "conformer"),
        ("pos_enc_type", "rope"),
        ("quantize_input", True),
        ("conv_pos_batch_norm", True),
        ("crop_seq_to_multiple", 2),
        ("extractor_mode", "batch_norm"),
        ("encoder_layers", "12"),
        ("conv_bias", 1),
        ("dropout", "much"),
        ("conv_feature_layers", "__import__('os').system('true')"),
        ("conv_feature_layers", "[(512, 10, 5)] * 10 ** 9"),
        ("conv_feature_layers", "[]"),
        ("conv_feature_layers", "[(8, 10)]"),
        ("conv_feature_layers", "[(8, 10, 0)]"),
    ],
)
def test_settings_that_change_numbers_are_refused_by_name(tmp_path: Path, key: str, value: object) -> None:
    config = small()
    error = _refused(_save(tmp_path / "a.pt", _model(config), {**fairseq_settings(config, "hubert"), key: value}))
    assert key in error.message


def test_an_encoder_of_impossible_sizes(tmp_path: Path) -> None:
    config = small()
    for key, value in (("encoder_attention_heads", 0), ("encoder_attention_heads", 5), ("encoder_layers", 2**40)):
        said = {**fairseq_settings(config, "hubert"), key: value}
        assert "no encoder is of the sizes" in _refused(_save(tmp_path / "a.pt", _model(config), said)).message


def test_fine_tuned_checkpoints_say_so(tmp_path: Path) -> None:
    config = small()
    model = {f"w2v_encoder.w2v_model.{name}": tensor for name, tensor in _model(config).items()}
    said = {"_name": "hubert_ctc"}
    assert "fine-tuned" in _refused(_save(tmp_path / "a.pt", model, said)).message
    assert "fine-tuned" in _refused(_save(tmp_path / "b.pt", model, {"_name": "other"}), "wav2vec2").message


def test_other_methods_are_sent_to_their_upstream(tmp_path: Path) -> None:
    config = small()
    path = _save(tmp_path / "a.pt", _model(config), fairseq_settings(config, "hubert"))
    error = _refused(path, "wav2vec2")
    assert error.message == f"wav2vec2: {path} is a hubert checkpoint"
    assert error.hint == f"use --upstream hubert:checkpoint={path}"
    nameless = {**fairseq_settings(config, "hubert"), "_name": None}
    assert read_checkpoint(_save(tmp_path / "b.pt", _model(config), nameless), family="hubert").family == "hubert"
    other = {**fairseq_settings(config, "speech_to_text")}
    bare = fairseq_names(random_state(config), config)
    assert "'speech_to_text'" in _refused(_save(tmp_path / "c.pt", bare, other)).message


def test_normalize_is_said_by_the_file_or_by_the_user(tmp_path: Path) -> None:
    config = small()
    path = _save(tmp_path / "a.pt", _model(config), fairseq_settings(config, "hubert"), normalize=None)
    assert "normalize=true" in _refused(path).hint
    for word, value in (("true", True), ("false", False)):
        checkpoint = read_checkpoint(path, family="hubert", normalize=word)
        assert checkpoint.config.normalize is value
        assert checkpoint.config.normalize_eps == 1e-5
