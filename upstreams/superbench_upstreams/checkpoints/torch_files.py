"""Read a file of `torch.save` without running anything that is in it.

torch's own reader comes first, with `weights_only`. Where it refuses (a dictionary of fairseq, a namespace, nodes of
omegaconf), the file's pickle is read as data. Two layouts, both read here:

    zip       <name>/data.pkl, <name>/data/0, <name>/data/1, ...: a pickle, and the bytes of each storage
    legacy    pickles in a row: a magic number, a version, the machine, the object, the keys of the storages; then for
              each key its number of elements (8 bytes, little-endian) and its bytes
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from superbench.errors import PluginError
from superbench_upstreams.checkpoints.plain import Plain
from superbench_upstreams.checkpoints.unpickling import DTYPES, Held, Storage, StorageType, Unpickler
from superbench_upstreams.checkpoints.wording import shown

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001  # torch/serialization.py: MAGIC_NUMBER, PROTOCOL_VERSION
ZIP, PICKLE = b"PK\x03\x04", b"\x80"  # how the two begin; the latter is the opcode PROTO
# What a trainer keeps beside the model: never looked at.
UNREAD = {
    *("last_optimizer_state", "optimizer_history", "extra_state", "task_state", "criterion"),  # fairseq
    *("optimizer_states", "lr_schedulers", "callbacks", "loops", "native_amp_scaling_state"),  # Lightning
    *("Optimizer", "Scheduler", "Step", "Epoch", "Args", "Runner"),  # s3prl
}
# What readers raise on bytes that are no such file, or not all of it.
BROKEN = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError),
    *(LookupError, TypeError, AttributeError, ImportError, OverflowError, MemoryError, AssertionError),
)


def read_torch_file(path: Path) -> dict[str, Any]:
    """Return what the file holds as plain containers and CPU tensors, without a trainer's own state.

    Raises `PluginError` where it is no whole torch file, or names a class that is not known to be harmless.
    """
    try:
        with path.open("rb") as file:
            _check_start(file, path)
            held, read = _by_torch(path) or _as_data(file, path)
            if not isinstance(held, dict):
                raise PluginError(
                    f"{path} holds a {type(held).__name__} where a dictionary is expected",
                    "give a checkpoint as its makers published it, with its configuration",
                )
            plain = Plain(read)
            return {str(key): plain(value) for key, value in held.items() if key not in UNREAD}
    except OSError as error:
        raise PluginError(f"{path} cannot be read: {error}", "check the path and its permissions") from error
    except BROKEN as error:
        raise PluginError(
            f"{path} is no checkpoint that torch wrote, or not all of one: {type(error).__name__}: {error}",
            "download or copy it again; compare its size with the original's",
        ) from error


def _check_start(file: BinaryIO, path: Path) -> None:
    """Refuse what is no such file by its first bytes, and an archive that would grow when it is unpacked."""
    start = file.read(len(ZIP))
    if not start:
        raise PluginError(f"{path} is empty", "download or copy it again")
    if start != ZIP and start[:1] != PICKLE:
        start += file.read(12)
        raise PluginError(
            f"{path} is no file of torch.save (it begins with {start!r}), or not all of one",
            "download or copy it again: is it a page that says why there is no file, or a pointer of Git LFS?",
        )
    if start == ZIP:
        entries = zipfile.ZipFile(file).infolist()
        compressed = [e for e in entries if e.compress_type != zipfile.ZIP_STORED or e.file_size != e.compress_size]
        if compressed or sum(entry.file_size for entry in entries) > path.stat().st_size:
            said = f"has {shown(compressed[0].filename)} compressed" if compressed else "states more bytes than it has"
            raise PluginError(
                f"{path} is an archive that {said}, which torch.save never does, so it was not read",
                "such a file may fill all memory: get the checkpoint as its makers published it",
            )
    file.seek(0)


Opened = tuple[Any, Callable[[Any], Tensor]]  # what the pickle said, and how to get at its tensors


def _by_torch(path: Path) -> Opened | None:
    """What torch reads where it trusts every name in the file; None where it does not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a protocol it may not know: then the file is read as data
            held = torch.load(path, map_location="cpu", weights_only=True)
        return held, lambda tensor: tensor.detach()
    except (*BROKEN, OSError):
        return None


def _as_data(file: BinaryIO, path: Path) -> Opened:
    zipped = file.read(len(ZIP)) == ZIP
    file.seek(0)
    return _from_zip(file, path) if zipped else _from_pickles(file, path)


def _from_zip(file: BinaryIO, path: Path) -> Opened:
    archive = zipfile.ZipFile(file)
    names = set(archive.namelist())
    pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1 or any(name.endswith("/constants.pkl") for name in names):
        raise pickle.UnpicklingError("the archive is no checkpoint (a TorchScript program, perhaps)")
    folder = pickles[0].partition("/")[0]
    if f"{folder}/byteorder" in names and archive.read(f"{folder}/byteorder") != sys.byteorder.encode():
        raise pickle.UnpicklingError("its numbers have the byte order of another machine")
    held = Unpickler(io.BytesIO(archive.read(pickles[0])), path, _find_in_zip).load()
    flat: dict[str, bytearray] = {}

    def find(key: str) -> bytearray:
        if key not in flat:
            flat[key] = bytearray(archive.read(f"{folder}/data/{key}"))
        return flat[key]

    return held, lambda tensor: _view(tensor, find)


def _find_in_zip(pid: Any) -> Storage:
    kind, storage_type, key, _, numel = pid
    if kind != "storage" or not isinstance(storage_type, StorageType) or type(numel) is not int:
        raise pickle.UnpicklingError("it refers to something that is no storage")
    return Storage(str(storage_type), str(key), numel)


def _find_in_row(pid: Any) -> Storage:
    kind, *rest = pid
    if kind != "storage" or len(rest) != 5 or not isinstance(rest[0], StorageType):
        raise pickle.UnpicklingError("it refers to something that is no storage")
    storage_type, key, _, numel, view = rest
    return Storage(str(storage_type), str(key), numel, view[1] if view else 0)


def _from_pickles(file: BinaryIO, path: Path) -> Opened:
    if Unpickler(file, path).load() != MAGIC or Unpickler(file, path).load() != VERSION:
        raise pickle.UnpicklingError("it does not begin as a file of torch.save")
    machine = Unpickler(file, path).load()
    if not isinstance(machine, dict) or machine.get("little_endian") is not (sys.byteorder == "little"):
        raise pickle.UnpicklingError("its numbers have the byte order of another machine")
    dtypes: dict[str, str] = {}

    def find_storage(pid: Any) -> Storage:
        storage = _find_in_row(pid)
        dtypes[storage.key] = storage.dtype
        return storage

    held = Unpickler(file, path, find_storage).load()
    keys = Unpickler(file, path).load()
    size = path.stat().st_size
    flat: dict[str, bytearray] = {}
    for key in keys:
        (numel,) = struct.unpack("<q", file.read(8))
        length = numel * torch.empty(0, dtype=getattr(torch, dtypes[key])).element_size()
        if not 0 <= length <= size - file.tell():
            raise EOFError("it ends before its last number")
        flat[key] = bytearray(file.read(length))
    return held, lambda tensor: _view(tensor, lambda key: flat[key])


def _view(held: Held, find: Callable[[str], bytearray]) -> Tensor:
    """The tensor itself: a view of its storage's bytes, within them."""
    storage = held.storage
    if storage.dtype not in DTYPES.values():
        raise pickle.UnpicklingError(f"it holds numbers of an unknown type: {storage.dtype}")
    data = find(storage.key)
    dtype = getattr(torch, storage.dtype)
    flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
    return flat.as_strided(held.size, held.stride, storage.start + held.offset)
