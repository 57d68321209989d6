"""A checkpoint folder is written whole or not at all: whatever goes wrong, nothing is left behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from superbench.errors import ResourceError, UsageError
from superbench_upstreams.checkpoints import own


def _write(folder: Path, **settings: Any) -> None:
    tensors = {"a": torch.arange(10_000.0)}
    own.write_folder(folder, family="usad", config={}, settings=settings, tensors=tensors, origin={})


def _below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    _write(tmp_path / "own")
    before = (tmp_path / "own" / "superbench.json").read_bytes()
    with pytest.raises(UsageError, match="never written over"):
        _write(tmp_path / "own", temperature=0.1)
    assert (tmp_path / "own" / "superbench.json").read_bytes() == before
    assert _below(tmp_path / "own") == ["superbench.json", "weights.safetensors"]
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="never written over"):
        _write(tmp_path / "file")


def test_settings_that_are_no_json_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError)):
        _write(tmp_path / "own", x=object())
    assert _below(tmp_path) == []


def test_a_place_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for name in ("file/own", "file/deep/own", "a" * 300, "deep/" + "a" * 300):
        with pytest.raises(ResourceError, match=r"cannot be written: (Not a directory|File name too long)") as caught:
            _write(tmp_path / name)
        assert caught.value.hint
        assert _below(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ResourceError, match="Permission denied"):
            _write(tmp_path / "own")
    finally:
        tmp_path.chmod(0o700)
    assert _below(tmp_path) == []


@pytest.mark.parametrize("error", [SafetensorError("No space left on device"), OSError(28, "No space left on device")])
@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, there: bool
) -> None:
    def fill(tensors: dict[str, Any], path: Path) -> None:
        path.write_bytes(b"the first half")
        raise error

    (tmp_path / "there").mkdir()
    monkeypatch.setattr(safetensors.torch, "save_file", fill)
    with pytest.raises(ResourceError, match="cannot be written: No space left on device"):
        _write(tmp_path / "there" if there else tmp_path / "deep" / "deeper" / "own")
    assert _below(tmp_path) == ["there"]


def test_a_description_that_finds_no_room_takes_the_weights_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path, *_: object, **__: object) -> None:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fill)
    with pytest.raises(ResourceError, match="No space left on device"):
        _write(tmp_path / "own")
    assert _below(tmp_path) == []


def test_what_names_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no folder is named"):
        _write(Path(""))
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UsageError, match="leads nowhere, to nowhere"):
        _write(tmp_path / "link")
    assert _below(tmp_path) == ["link"]
    assert (tmp_path / "link").is_symlink()
