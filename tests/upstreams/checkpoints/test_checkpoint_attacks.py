"""Nothing in a checkpoint is ever run: what could do something is refused by name, and damage is said plainly."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from superbench.errors import PluginError
from superbench_upstreams.checkpoints.torch_files import MAGIC, VERSION, read_torch_file
from superbench_upstreams.checkpoints.unpickling import Entries, Opaque


def _zipped(path: Path, program: bytes, *, name: str = "archive", **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/data.pkl", program)
        archive.writestr(f"{name}/version", "3\n")
        for file, data in files.items():
            archive.writestr(f"{name}/{file}", data)
    return path


def _legacy(path: Path, program: bytes) -> Path:
    machine = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    rows = [pickle.dumps(value, 2) for value in (MAGIC, VERSION, machine)]
    path.write_bytes(b"".join([*rows, program, pickle.dumps([], 2)]))
    return path


def _bare(path: Path, program: bytes) -> Path:
    path.write_bytes(program)
    return path


LAYOUTS = [_zipped, _legacy, _bare]


class _Calls:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _by_name(module: str, name: str, argument: str) -> bytes:
    """Protocol 4: looks `name` up in `module`, dots and all, and calls it."""
    return b"\x80\x04}" + _text("x") + _text(module) + _text(name) + b"\x93" + _text(argument) + b"\x85Rs."


def _programs(canary: Path) -> dict[str, tuple[bytes, str]]:
    """A pickle that would leave a file behind if it was run, and the name that gives it away."""
    touch, code = f"touch {canary}", f"open({str(canary)!r}, 'w').close()"
    inner = pickle.dumps(_Calls(os.system, touch), 2)
    return {
        "os.system": (pickle.dumps({"x": _Calls(os.system, touch)}, 2), "posix.system"),
        "builtins.eval": (pickle.dumps({"x": _Calls(eval, code)}, 4), "builtins.eval"),
        "builtins.exec": (pickle.dumps({"x": _Calls(exec, code)}, 0), "__builtin__.exec"),
        "getattr": (_getattr(touch), "builtins.getattr"),
        "__import__": (_by_name("builtins", "__import__", "antigravity"), "builtins.__import__"),
        "nested load": (pickle.dumps({"x": _Calls(pickle.loads, inner)}, 2), "pickle.loads"),
        "torch.load": (_by_name("torch", "load", str(canary)), "torch.load"),
        "from bytes": (pickle.dumps({"x": _Calls(torch.storage._load_from_bytes, inner)}, 2), "_load_from_bytes"),
        "through a module": (_by_name("torch.serialization", "os.system", touch), "torch.serialization.os.system"),
        "through ours": (_by_name("omegaconf.nodes", "os.system", touch), "omegaconf.nodes.os.system"),
        "through typing": (_by_name("typing", "sys.modules", touch), "typing.sys.modules"),
        "of torch": (_by_name("torch.utils.collect_env", "run", touch), "torch.utils.collect_env.run"),
        "hidden in a known package": (_by_name("pathlib", "os.system", touch), "pathlib.os.system"),
        "copyreg": (_by_name("copyreg", "_reconstructor", touch), "copyreg._reconstructor"),
        "functools": (_by_name("functools", "partial", touch), "functools.partial"),
        "subprocess": (_by_name("subprocess", "Popen", touch), "subprocess.Popen"),
        "a class of its own": (_by_name("__main__", "Model", touch), "__main__.Model"),
    }


def _getattr(command: str) -> bytes:
    module = _text("builtins") + _text("getattr") + b"\x93" + _text("os") + _text("system") + b"\x86R"
    return b"\x80\x04}" + _text("x") + module + _text(command) + b"\x85Rs."


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("trick", _programs(Path("nowhere")))
def test_whatever_could_do_something_is_refused_by_name(
    tmp_path: Path, trick: str, layout: Callable[..., Path]
) -> None:
    canary = tmp_path / "canary"
    program, name = _programs(canary)[trick]
    if layout is _bare and not program.startswith(b"\x80"):
        name = "it begins with"  # protocol 0, which torch.save never writes bare
    path = layout(tmp_path / "a.pt", program)
    with pytest.raises(PluginError, match=name.replace(".", r"\.")) as caught:
        read_torch_file(path)
    assert str(path) in caught.value.message
    assert not canary.exists()


def _global(module: str, name: str) -> bytes:
    return _text(module) + _text(name) + b"\x93"


STUBS = [_global("omegaconf.nodes", "AnyNode"), _global("collections", "OrderedDict"), _global("argparse", "Namespace")]
REBUILD = _global("torch._utils", "_rebuild_tensor_v2")


@pytest.mark.parametrize(
    "program",
    [
        *(stub + b"N}" + _text("__setstate__") + REBUILD + b"s\x86b" for stub in STUBS),  # sets a class's attribute
        *(stub + b"}" + _text("__new__") + REBUILD + b"sb" for stub in STUBS),
        *(stub + b")\x81" + b"N}" + _text("__class__") + REBUILD + b"s\x86b)R" for stub in STUBS),  # calls an instance
        REBUILD + b"N}" + _text("_make") + STUBS[0] + b"s\x86b",
        REBUILD + b"}" + _text("_make") + STUBS[0] + b"sb",
        REBUILD + b")\x81",  # makes an instance of a function
        REBUILD + b"(NK\x00)N}tR",  # a tensor without a storage
        _text("eval") + _text("1") + b"\x85R",  # calls a string
        b"K\x01" + _text("x") + b"\x85R",
        b"\x82\x01",  # the registry of extensions
        b"(lp0\ng0\na",  # a list in itself
        b"Pabc\n",  # a persistent id that is none
    ],
)
def test_what_stands_in_can_neither_be_changed_nor_called(tmp_path: Path, program: bytes) -> None:
    before = dict(vars(Opaque)), dict(vars(Entries))
    path = _zipped(tmp_path / "a.pt", b"\x80\x04}" + _text("x") + program + b"s.")
    with pytest.raises(PluginError):
        read_torch_file(path)
    assert (dict(vars(Opaque)), dict(vars(Entries))) == before


def _spans(path: Path) -> Path:
    """An archive of torch.save in which a second name stands for the bytes of the first."""
    torch.save({"model": {"a": torch.ones(10_000)}}, path)
    with zipfile.ZipFile(path, "a") as archive:
        first = next(entry for entry in archive.infolist() if entry.filename.endswith("data/0"))
        again = zipfile.ZipInfo(first.filename[:-1] + "1")
        for key in ("header_offset", "CRC", "compress_size", "file_size"):
            setattr(again, key, getattr(first, key))
        archive.filelist.append(again)
        archive._didModify = True
    return path


def _deflated(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}" + b"\0" * 10_000_000)
        archive.writestr("archive/version", "3\n")
    return path


@pytest.mark.parametrize(
    ("make", "said"), [(_deflated, "has 'archive/data.pkl' compressed"), (_spans, "states more bytes than it has")]
)
def test_an_archive_that_would_grow_is_never_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path], said: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it was opened")

    path = make(tmp_path / "a.pt")
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(zipfile.ZipFile, "read", refuse)
    with pytest.raises(PluginError, match=said) as caught:
        read_torch_file(path)
    assert str(path) in caught.value.message


def test_states_are_kept_as_data(tmp_path: Path) -> None:
    """`__setstate__` of a known class is not its own here."""
    node = STUBS[0] + b")\x81}" + _text("_val") + _text("yes") + b"sb"
    path = _zipped(tmp_path / "a.pt", b"\x80\x04}" + _text("x") + node + b"s.")
    assert read_torch_file(path) == {"x": "yes"}


def test_one_number_cannot_ask_for_all_memory(tmp_path: Path) -> None:
    """A place to remember a value at, four thousand millions down the list."""
    kept = STUBS[0] + b")\x81}" + _text("_val") + _text("yes") + b"r\xf0\xff\xff\xff" + b"sb"
    path = _zipped(tmp_path / "a.pt", b"\x80\x04}" + _text("x") + kept + b"s.")
    assert read_torch_file(path) == {"x": "yes"}


def test_views_stay_within_their_storage(tmp_path: Path) -> None:
    storage = b"(" + _text("storage") + _global("torch", "FloatStorage") + _text("0") + _text("cpu") + b"K\x02tQ"
    namespace = _text("y") + STUBS[2] + b")\x81s"  # so that it is read as data

    def program(*, offset: int, size: int) -> bytes:
        numbers = bytes([0x4B, offset, 0x4B, size, 0x85]) + b"K\x01\x85"
        return b"\x80\x04}" + _text("x") + REBUILD + b"(" + storage + numbers + b"\x89N" + b"tRs" + namespace + b"."

    data = {"data/0": struct.pack("<2f", 1.5, 2.5)}
    assert read_torch_file(_zipped(tmp_path / "a.pt", program(offset=1, size=1), **data))["x"].tolist() == [2.5]
    for offset, size in ((1, 2), (0, 3), (9, 1)):
        with pytest.raises(PluginError, match="no checkpoint that torch wrote, or not all of one"):
            read_torch_file(_zipped(tmp_path / "b.pt", program(offset=offset, size=size), **data))
