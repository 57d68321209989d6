"""Files of `torch.save` are read as data just as torch reads them, and damage is said plainly."""

from __future__ import annotations

import argparse
import io
import pickle
import zipfile
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign import OMEGACONF, as_omegaconf, pretending

from superbench.errors import PluginError
from superbench_upstreams.checkpoints.plain import Plain
from superbench_upstreams.checkpoints.torch_files import read_torch_file
from superbench_upstreams.checkpoints.unpickling import Unpickler


@pytest.mark.parametrize("zipped", [True, False])
def test_the_two_layouts_are_read_as_torch_reads_them(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(24.0)
    tensors = {
        "whole": base,
        "view": base[3:9].view(2, 3).T,
        "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
        "wide": torch.tensor([1.0, 1e-300], dtype=torch.float64),
        "short": torch.tensor([[1, -2]], dtype=torch.int16),
        "long": torch.tensor([2**40]),
        "yes": torch.tensor([True, False]),
        "brain": torch.tensor([1.5], dtype=torch.bfloat16),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "none": torch.empty(0, 3),
        "scalar": torch.tensor(7.0),
    }
    with pretending("fairseq.data.dictionary.Dictionary") as classes:
        strange = classes["fairseq.data.dictionary.Dictionary"]()
        torch.save({"model": tensors, "strange": strange}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "a.pt", weights_only=True)
    read = read_torch_file(tmp_path / "a.pt")["model"]
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor.detach())


def test_harmless_classes_become_plain(tmp_path: Path) -> None:
    held = {
        "namespace": argparse.Namespace(a=1, b=argparse.Namespace(c=[2.5])),
        "ordered": OrderedDict(a=1),
        "counter": Counter("aab"),
        "default": defaultdict(list, a=[1]),
        "set": {1},
        "path": Path("a") / "b",
        "any": Any,
        "float64": np.float64(2.5),
        "int32": np.int32(-7),
        "dtype": torch.float16,
        "size": torch.Size([2, 3]),
        "tuple": (1, "x", None, True),
        3: b"bytes",
    }
    for protocol in (2, 4):
        torch.save(held, tmp_path / "a.pt", pickle_protocol=protocol)
        assert read_torch_file(tmp_path / "a.pt") == {
            "namespace": {"a": 1, "b": {"c": [2.5]}},
            "ordered": {"a": 1},
            "counter": {"a": 2, "b": 1},
            "default": {"a": [1]},
            "set": [1],
            "path": "a/b",
            "any": "typing.Any",
            "float64": 2.5,
            "int32": -7,
            "dtype": "torch.float16",
            "size": [2, 3],
            "tuple": [1, "x", None, True],
            "3": b"bytes",
        }


def test_omegaconf_becomes_its_content() -> None:
    said = {"a": {"b": [1, {"c": None}], "d": "${a.b}"}, "e": True, "f": 2.5}
    with pretending(*OMEGACONF) as classes:
        program = pickle.dumps({"cfg": as_omegaconf(said, classes)}, 2)
    held = Unpickler(io.BytesIO(program), Path("a")).load()
    assert Plain(lambda tensor: tensor)(held) == {"cfg": said}


def test_a_trainers_own_state_is_not_looked_at(tmp_path: Path) -> None:
    torch.save({"model": {"a": 1}, "last_optimizer_state": {"state": torch.ones(2)}, "loops": {}}, tmp_path / "a.pt")
    assert read_torch_file(tmp_path / "a.pt") == {"model": {"a": 1}}


def _saved(path: Path, *, zipped: bool) -> bytes:
    with pretending("fairseq.data.dictionary.Dictionary") as classes:
        held = {"model": {"a": torch.ones(1000)}, "x": classes["fairseq.data.dictionary.Dictionary"]()}
        torch.save(held, path, _use_new_zipfile_serialization=zipped)
    return path.read_bytes()


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_files(tmp_path: Path, zipped: bool) -> None:
    whole = _saved(tmp_path / "a.pt", zipped=zipped)
    for length in (0, 1, 3, 100, len(whole) // 2, len(whole) - 1 if not zipped else len(whole) - 30):
        (tmp_path / "a.pt").write_bytes(whole[:length])
        with pytest.raises(PluginError, match="or not all of one" if length else r"a\.pt is empty") as caught:
            read_torch_file(tmp_path / "a.pt")
        assert str(tmp_path / "a.pt") in caught.value.message
        assert "again" in caught.value.hint


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"\n", r"is no file of torch.save (it begins with b'\n')"),
        (b"<!DOCTYPE html><html>not found</html>", "is no file of torch.save (it begins with b'<!DOCTYPE html><')"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is no file of torch.save (it begins with b'version https:/"),
        (b"\x80\x02N.", "is no checkpoint that torch wrote"),
    ],
)
def test_files_that_are_none(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "a.pt").write_bytes(data)
    with pytest.raises(PluginError) as caught:
        read_torch_file(tmp_path / "a.pt")
    assert caught.value.message.startswith(f"{tmp_path / 'a.pt'} {said}")


def test_other_torch_files(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    with pytest.raises(PluginError, match="holds a list where a dictionary is expected"):
        read_torch_file(tmp_path / "list.pt")
    torch.save(torch.ones(1), tmp_path / "tensor.pt")
    with pytest.raises(PluginError, match="holds a Tensor where a dictionary is expected"):
        read_torch_file(tmp_path / "tensor.pt")
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, 2))
        archive.writestr("a/constants.pkl", pickle.dumps((), 2))
    with pytest.raises(PluginError, match="TorchScript"):
        read_torch_file(tmp_path / "program.pt")
    with pytest.raises(PluginError, match="cannot be read"):
        read_torch_file(tmp_path)
