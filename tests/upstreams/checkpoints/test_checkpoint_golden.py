"""Checkpoints of the reference implementations, read here, give the reference's own features, alone and in a batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from superbench.errors import PluginError
from superbench_upstreams.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from superbench_upstreams.encoder import Encoded, Encoder

HUBERT_S3PRL = "fairseq_hubert_base/checkpoint_s3prl.pt"
# file or folder -> method, format, and options
FILES: dict[str, tuple[str, str, dict[str, str]]] = {
    "fairseq_hubert_base/checkpoint.pt": ("hubert", "fairseq", {}),
    HUBERT_S3PRL: ("hubert", "s3prl", {}),
    "fairseq_hubert_large/checkpoint.pt": ("hubert", "fairseq", {}),
    "fairseq_hubert_large/checkpoint_s3prl.pt": ("hubert", "s3prl", {}),
    "fairseq_wav2vec2_base/checkpoint.pt": ("wav2vec2", "fairseq", {}),
    "fairseq_wav2vec2_base/checkpoint_s3prl.pt": ("wav2vec2", "s3prl", {}),
    "fairseq_data2vec/checkpoint.pt": ("data2vec", "fairseq", {}),
    "fairseq_dinosr/checkpoint.pt": ("dinosr", "fairseq", {}),
    "wavlm_base/checkpoint.pt": ("wavlm", "unilm", {}),
    "spin_hubert/checkpoint.ckpt": ("spin", "spin", {"base": HUBERT_S3PRL}),
    "rspin_wavlm/checkpoint.pt": ("rspin", "rspin", {"config": "rspin_wavlm/encoder_config.json"}),
    "hf_data2vec": ("data2vec", "transformers", {"normalize": "true"}),
    "hf_hubert_group_post": ("hubert", "transformers", {"normalize": "false"}),
    "hf_hubert_group_stable": ("hubert", "transformers", {"normalize": "false"}),
    "hf_hubert_layer_post": ("hubert", "transformers", {"normalize": "true"}),
    "hf_wav2vec2_group_post": ("wav2vec2", "transformers", {"normalize": "false"}),
    "hf_wav2vec2_group_stable": ("wav2vec2", "transformers", {"normalize": "false"}),
    "hf_wav2vec2_layer_post": ("wav2vec2", "transformers", {"normalize": "true"}),
    "hf_wavlm_group_post": ("wavlm", "transformers", {"normalize": "false"}),
    "hf_wavlm_layer_post": ("wavlm", "transformers", {"normalize": "true"}),
}


def _read(golden: Path, name: str) -> Checkpoint:
    method, form, options = FILES[name]
    given = {key: str(golden / value) if key != "normalize" else value for key, value in options.items()}
    checkpoint = read_checkpoint(str(golden / name), family=method, **given)
    assert (checkpoint.family, checkpoint.format) == (method, form)
    return checkpoint


def _expected(features: Any, letter: str, form: str) -> list[np.ndarray]:
    """The layers [T, D] of one wave, from the transformer's input to the encoder's output."""
    if form == "transformers":
        return [*features[f"{letter}_hidden64"][:-1, 0], features[f"{letter}_last64"][0]]
    key = f"{letter}_readme_layers64" if form == "unilm" else f"{letter}_hidden64"
    return list(features[key][:, 0])


def _layers(encoded: Encoded, form: str, row: int) -> list[torch.Tensor]:
    # Spin's and R-Spin's lists begin with the projected features.
    states = [encoded.projected, *encoded.hidden[1:]] if form in ("spin", "rspin") else encoded.hidden
    return [state[row, : encoded.lengths[row]] for state in states]


@pytest.mark.parametrize("name", FILES)
def test_it_gives_the_features_of_the_reference(shared: Path, name: str) -> None:
    golden = shared / "golden"
    features = np.load((golden / name if (golden / name).is_dir() else (golden / name).parent) / "features.npz")
    waves = np.load(golden / "waves.npz")
    checkpoint = _read(golden, name)
    encoder = Encoder(checkpoint.config)
    encoder.load_state_dict(checkpoint.weights)
    encoder.eval().requires_grad_(False)
    for dtype, tolerance in ((torch.float32, 2e-5), (torch.float64, 1e-10)):
        encoder.to(dtype)
        for letters in ("a", "b", "ab"):
            encoded = encoder([torch.from_numpy(waves[f"wav_{letter}"]).to(dtype) for letter in letters])
            for row, letter in enumerate(letters):
                expected = _expected(features, letter, checkpoint.format)
                found = _layers(encoded, checkpoint.format, row)
                assert len(found) == len(expected) == 4
                for ours, theirs in zip(found, expected, strict=True):
                    assert ours.shape == theirs.shape
                    assert np.abs(ours.double().numpy() - theirs).max() < tolerance


@pytest.mark.parametrize("name", FILES)
def test_it_survives_our_own_format(shared: Path, tmp_path: Path, name: str) -> None:
    checkpoint = _read(shared / "golden", name)
    write_checkpoint(tmp_path / "own", checkpoint)
    again = read_checkpoint(str(tmp_path / "own"), family=checkpoint.family)
    assert (again.family, again.format, again.config) == (checkpoint.family, "superbench", checkpoint.config)
    assert again.settings == checkpoint.settings
    for ours, theirs in ((again.weights, checkpoint.weights), (again.extras, checkpoint.extras)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) and ours[key].dtype == torch.float32 for key in theirs)
    said = json.loads((tmp_path / "own" / "superbench.json").read_text())
    assert (said["format"], said["from"]) == (1, {"format": checkpoint.format})


def test_dinosr_keeps_heads_codebooks_and_teacher(shared: Path) -> None:
    path = shared / "golden" / "fairseq_dinosr" / "checkpoint.pt"
    raw = torch.load(path, weights_only=True)["model"]
    checkpoint = read_checkpoint(str(path), family="dinosr")
    for k in range(2):
        assert torch.equal(checkpoint.extras[f"codebooks.{k}"], raw[f"_codebook{k}"])  # sums, as stored
        assert torch.equal(checkpoint.extras[f"codebook_counts.{k}"], raw[f"_codebook_cnts{k}"])
        assert torch.equal(checkpoint.extras[f"heads.{k}.weight"], raw[f"heads.{k}.weight"])
        assert torch.equal(checkpoint.extras[f"heads.{k}.bias"], raw[f"heads.{k}.bias"])
    teacher = {name.removeprefix("teacher."): t for name, t in checkpoint.extras.items() if name.startswith("teacher.")}
    assert len(checkpoint.extras) == 8 + len(raw["_ema"]) == 8 + len(teacher)
    assert torch.equal(teacher["layers.1.ffn_in.weight"], raw["_ema"]["layers.1.fc1.weight"])
    assert torch.equal(teacher["positions.blocks.4.bias"], raw["_ema"]["pos_conv.4.0.bias"])
    assert torch.equal(teacher["norm.weight"], raw["_ema"]["layer_norm.weight"])
    assert not torch.equal(teacher["layers.1.ffn_in.weight"], checkpoint.weights["layers.1.ffn_in.weight"])


@pytest.mark.parametrize("name", ["spin_hubert/checkpoint.ckpt", "rspin_wavlm/checkpoint.pt"])
def test_head_and_codebook_give_the_codes_of_the_reference(shared: Path, name: str) -> None:
    golden = shared / "golden"
    checkpoint = _read(golden, name)
    features, waves = np.load((golden / name).parent / "features.npz"), np.load(golden / "waves.npz")
    encoder = Encoder(checkpoint.config)
    encoder.load_state_dict(checkpoint.weights)
    encoder.eval().requires_grad_(False)
    head = checkpoint.extras
    for letter in "ab":
        last = encoder([torch.from_numpy(waves[f"wav_{letter}"])]).hidden[-1][0]
        scores = torch.nn.functional.normalize(last @ head["head.weight"].T + head["head.bias"], dim=-1)
        codes = (scores @ head["codebook.weight"].T).argmax(dim=-1)
        assert np.array_equal(codes.numpy(), features[f"{letter}_codes"].reshape(-1)[: len(codes)])


def test_a_spin_file_of_another_size_asks_for_its_base(shared: Path) -> None:
    with pytest.raises(PluginError, match="of another shape") as caught:
        read_checkpoint(str(shared / "golden" / "spin_hubert" / "checkpoint.ckpt"), family="spin")
    assert "base=CHECKPOINT" in caught.value.hint
    with pytest.raises(PluginError, match="the base given is a wavlm checkpoint"):
        read_checkpoint(
            str(shared / "golden" / "spin_hubert" / "checkpoint.ckpt"),
            family="spin",
            base=str(shared / "golden" / "wavlm_base" / "checkpoint.pt"),
        )
