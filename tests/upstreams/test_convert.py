"""`superbench upstreams convert` writes any checkpoint as ours, and its features stay what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sounds import make_tones
from test_methods import MODULES, checkpoint

from superbench_upstreams.checkpoints import write_checkpoint

GOLDEN = {
    "fairseq_hubert_base/checkpoint.pt": [],
    "fairseq_hubert_large/checkpoint_s3prl.pt": [],
    "fairseq_dinosr/checkpoint.pt": [],
    "wavlm_base/checkpoint.pt": [],
    "spin_hubert/checkpoint.ckpt": ["--base", "fairseq_hubert_base/checkpoint_s3prl.pt"],
    "rspin_wavlm/checkpoint.pt": ["--config", "rspin_wavlm/encoder_config.json"],
    "hf_wav2vec2_group_stable": ["--normalize", "false"],
}


def extracted(superbench, upstream: str, out: Path, wave: Path, tap: str = "hidden") -> np.ndarray:
    ended = superbench("extract", "-u", upstream, "--out", out, "--tap", tap, wave)
    assert ended.code == 0, ended.err
    with np.load(out) as arrays:
        (array,) = arrays.values()
    return array


@pytest.mark.parametrize("method", MODULES)
def test_every_method_comes_back_as_it_went(method, tmp_path, superbench):
    write_checkpoint(tmp_path / "first", checkpoint(method))
    said = superbench("upstreams", "convert", tmp_path / "first", tmp_path / "again", "--json")
    assert said.code == 0, said.err
    assert said.json["family"] == method
    assert said.json["upstream"] == f"{method}:checkpoint={tmp_path / 'again'}"
    for name in ("weights.safetensors",):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize("file", GOLDEN)
def test_a_converted_checkpoint_says_the_same(file, shared, tmp_path, superbench):
    golden = shared / "golden"
    options = [str(golden / o) if (golden / o).exists() else o for o in GOLDEN[file]]
    ended = superbench("upstreams", "convert", golden / file, tmp_path / "ours", *options)
    assert ended.code == 0, ended.err
    method = ended.out.partition(": ")[2].partition(",")[0]
    assert f"superbench check --upstream {method}:checkpoint={tmp_path / 'ours'}" in ended.out
    given = dict(zip([o.removeprefix("--") for o in options[::2]], options[1::2], strict=True))
    before = ",".join([f"{method}:checkpoint={golden / file}", *(f"{k}={v}" for k, v in given.items())])
    wave = make_tones(tmp_path / "tones", {"train": 1}).with_name("train00.wav")
    taps = ["hidden", "codes"] if method in ("spin", "rspin", "dinosr") else ["hidden", "ffn"]
    for tap in taps:
        ours = extracted(superbench, f"{method}:checkpoint={tmp_path / 'ours'}", tmp_path / "ours.npz", wave, tap)
        assert np.array_equal(extracted(superbench, before, tmp_path / "theirs.npz", wave, tap), ours)


def test_what_is_there_is_not_overwritten(tmp_path, superbench):
    write_checkpoint(tmp_path / "first", checkpoint("hubert"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("my only copy")
    ended = superbench("upstreams", "convert", tmp_path / "first", tmp_path / "full")
    assert ended.code == 2
    assert str(tmp_path / "full") in ended.err
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_what_is_no_checkpoint_is_refused(tmp_path, superbench):
    (tmp_path / "notes.pt").write_text("not a checkpoint")
    ended = superbench("upstreams", "convert", tmp_path / "notes.pt", tmp_path / "out")
    assert ended.code == 4
    assert "notes.pt" in ended.err
    assert not (tmp_path / "out").exists()
