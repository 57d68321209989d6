"""A checkpoint is found where it is said to be, told apart from others, and kept whole in our own format."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign import GATED, fairseq_names, random_state, same, small, wavlm_settings

from superbench.errors import (
    IntegrityError,
    MissingExtraError,
    NumericalError,
    PluginError,
    SuperbenchError,
    UsageError,
)
from superbench_upstreams.checkpoints import Checkpoint, own, read_checkpoint, write_checkpoint

CONFIG = small(**GATED)


def _wavlm(path: Path) -> str:
    torch.save({"cfg": wavlm_settings(CONFIG), "model": fairseq_names(random_state(CONFIG), CONFIG)}, path)
    return str(path)


def _checkpoint(**changes: Any) -> Checkpoint:
    fields: dict[str, Any] = {
        "family": "dcspin",
        "format": "superbench",
        "config": CONFIG,
        "weights": random_state(CONFIG),
        "extras": {"head.weight": torch.ones(4, 16), "codebook.weight": torch.eye(4)},
        "settings": {"temperature": 0.1, "layers": [1, 2]},
    }
    return Checkpoint(**{**fields, **changes})


def test_our_own_format_keeps_everything(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "deep" / "own", _checkpoint())
    assert sorted(p.name for p in (tmp_path / "deep" / "own").iterdir()) == ["superbench.json", "weights.safetensors"]
    again = read_checkpoint(str(tmp_path / "deep" / "own"), family="dcspin")
    assert (again.family, again.config, again.settings) == ("dcspin", CONFIG, {"temperature": 0.1, "layers": [1, 2]})
    assert same(again.weights, random_state(CONFIG))
    assert same(again.extras, _checkpoint().extras)
    assert read_checkpoint(str(tmp_path / "deep" / "own"), family="dcspin", normalize="true").config.normalize


def test_tensors_that_share_their_memory_are_written(tmp_path: Path) -> None:
    whole = torch.arange(16.0).view(4, 4)
    tensors = {"a": whole, "b": whole[1:], "c": whole.T}
    own.write_folder(
        tmp_path / "own", family="usad", config={"w": 1}, settings={}, tensors=tensors, origin={"by": "me"}
    )
    found = own.read_folder(tmp_path / "own")
    assert (found.family, found.config, found.settings, found.origin) == ("usad", {"w": 1}, {}, {"by": "me"})
    assert same(found.tensors, tensors)
    with pytest.raises(PluginError, match="is a usad checkpoint") as caught:
        read_checkpoint(str(tmp_path / "own"), family="hubert")
    assert f"use --upstream usad:checkpoint={tmp_path / 'own'}" in caught.value.hint
    assert "hubert, wav2vec2, wavlm, data2vec, dinosr, spin, rspin, dcspin, distilhubert" in caught.value.hint


def _changed(folder: Path, **changes: Any) -> str:
    write_checkpoint(folder, _checkpoint())
    said = json.loads((folder / "superbench.json").read_text())
    for key, value in changes.items():
        said[key] = {**said[key], **value} if isinstance(value, dict) else value
    (folder / "superbench.json").write_text(json.dumps({k: v for k, v in said.items() if v is not None}))
    return str(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"family": None}, "family"),
        ({"family": 3}, "family"),
        ({"extra": 1}, "extra"),
        ({"config": {"dilation": 2}}, "dilation"),
        ({"config": {"width": "16"}}, "width"),
        ({"config": {"norm_first": 1}}, "norm_first"),
        ({"config": {"width": 20}}, "no encoder is of the sizes|of another shape"),
        ({"config": {"layers": 1}}, "unexpected: layers.1"),
        ({"config": {"conv_layers": [[8, 10]]}}, "conv_layers"),
        ({"config": {"conv_norm": "batch"}}, "conv_norm"),
    ],
)
def test_a_description_that_is_not_ours(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PluginError, match=message):
        read_checkpoint(_changed(tmp_path / "own", **changes), family="dcspin")


def test_a_folder_that_is_not_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "own"
    write_checkpoint(path, _checkpoint())
    weights = path / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(IntegrityError, match="SHA-256"):
        read_checkpoint(str(path), family="dcspin")
    weights.unlink()
    with pytest.raises(PluginError, match=r"no weights\.safetensors"):
        read_checkpoint(str(path), family="dcspin")
    for text in ("{", "[" * 100_000):
        (path / "superbench.json").write_text(text)
        with pytest.raises(PluginError, match=r"superbench\.json is no JSON"):
            read_checkpoint(str(path), family="dcspin")
    with pytest.raises(PluginError, match=r"holds no superbench\.json"):
        own.read_folder(tmp_path)


def test_numbers_that_are_none_are_named(tmp_path: Path) -> None:
    extras = {"codebook.weight": torch.tensor([1.0, float("inf")])}
    write_checkpoint(tmp_path / "own", _checkpoint(extras=extras))
    with pytest.raises(NumericalError, match=r"codebook\.weight"):
        read_checkpoint(str(tmp_path / "own"), family="dcspin")


@pytest.mark.parametrize(
    ("address", "revision", "expected"),
    [
        ("hf://datasets/ab/cd/x/y.ckpt", "", ("ab/cd", "x/y.ckpt", "dataset", None)),
        ("hf://datasets/ab/cd@v1/y.ckpt", "", ("ab/cd", "y.ckpt", "dataset", "v1")),
        ("hf://ab/cd/y.pt", "", ("ab/cd", "y.pt", "model", None)),
        ("hf://ab/cd/y.pt", "v2", ("ab/cd", "y.pt", "model", "v2")),
        ("hf://ab/cd@v2/y.pt", "v2", ("ab/cd", "y.pt", "model", "v2")),
    ],
)
def test_single_files_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, revision: str, expected: tuple[Any, ...]
) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub (the extra 'hf') is not installed")
    asked = []

    def download(name: str, file: str, *, repo_type: str, revision: str | None, etag_timeout: float) -> str:
        asked.append((name, file, repo_type, revision))
        return _wavlm(tmp_path / "a.pt")

    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert same(read_checkpoint(address, family="wavlm", revision=revision).weights, random_state(CONFIG))
    assert asked == [expected]


@pytest.mark.parametrize(
    "address", ["hf://", "hf://a/b", "hf://datasets/a/b", "hf://a//c", "hf:///b/c", "hf://a/b/" + "c" * 5000]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(UsageError, match="names no file on the hub") as caught:
        read_checkpoint(address, family="spin")
    assert len(caught.value.message) < 300


def test_two_revisions_are_one_too_many() -> None:
    with pytest.raises(UsageError, match="revision='v2'"):
        read_checkpoint("hf://a/b@v1/c.pt", family="spin", revision="v2")


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub (the extra 'hf') is not installed")

    def download(*_: object, **__: object) -> str:
        raise OSError("no route")

    monkeypatch.setattr(hub, "hf_hub_download", download)
    with pytest.raises(PluginError, match="no route"):
        read_checkpoint("hf://a/b/c.pt", family="spin")


@pytest.mark.parametrize("path", ["hf://a/b/c.pt", "owner/name"])
def test_the_hub_needs_its_library(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"^spin: .* needs huggingface_hub") as caught:
        read_checkpoint(path, family="spin")
    assert "superbench[hf]" in caught.value.hint


def test_folders_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub (the extra 'hf') is not installed")
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **_: str(tmp_path))
    with pytest.raises(PluginError, match=r"holds neither config\.json"):
        read_checkpoint("owner/name", family="hubert")


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("", {}, "''"),
        ("./nothing.pt", {}, "no file or folder './nothing.pt'"),
        ("nothing.ckpt", {}, "no file or folder 'nothing.ckpt'"),
        ("a" * 5000, {}, "no checkpoint can be looked for at 'aaa"),
        ("a" * 3000 + "/" + "b" * 3000, {}, "File name too long"),
        ("~nobody_at_all/x", {}, "'~nobody_at_all/x'"),
        ("a.pt", {"normalize": "yes"}, "normalize='yes'"),
        ("a.pt", {"family": "whisper"}, "no method 'whisper'"),
    ],
)
def test_what_cannot_be_meant(path: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_checkpoint(path, **{"family": "hubert", **options})
    assert caught.value.hint
    assert len(caught.value.message) < 300


def test_any_method_will_do_where_none_is_asked_for(tmp_path: Path) -> None:
    assert read_checkpoint(_wavlm(tmp_path / "a.pt")).family == "wavlm"
    write_checkpoint(tmp_path / "own", _checkpoint())
    assert read_checkpoint(str(tmp_path / "own")).family == "dcspin"
    with pytest.raises(UsageError, match=r"^checkpoint: there is no file"):
        read_checkpoint("nothing.pt")


def test_a_revision_of_a_local_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="revision='v1'"):
        read_checkpoint(_wavlm(tmp_path / "a.pt"), family="wavlm", revision="v1")


def test_things_that_are_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"neither config\.json"):
        read_checkpoint(str(tmp_path), family="hubert")
    torch.save({"weights": 1, "epoch": 2}, tmp_path / "a.pt")
    with pytest.raises(PluginError, match="the keys epoch, weights"):
        read_checkpoint(str(tmp_path / "a.pt"), family="hubert")
    for held in (
        {"cfg": {"encoder_layers": 2}, "model": 3},
        {"task_cfg": 1, "model_cfg": 2, "model_weight": 3},
        {"Config": {}, "Distiller": {}},
        {"cfg": {"model": {}}, "model": None},
        {"cfg": {"codebook_size": 4}, "state_dict": {}},
        {"state_dict": {"loss_module.codebook.weight": 1}},
    ):
        torch.save(held, tmp_path / "b.pt")
        for method in ("hubert", "wavlm", "spin", "rspin", "distilhubert"):
            with pytest.raises(SuperbenchError):
                read_checkpoint(str(tmp_path / "b.pt"), family=method)


def test_the_package_is_light_at_import() -> None:
    code = "import sys, superbench_upstreams.checkpoints; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
