"""Read a stranger's pickle as data: nothing that it names is imported, looked up or called.

A pickle is a small program that may call whatever it names. Here each name it may use is answered with something inert
of ours: `Opaque` stands for an instance of a known class and keeps what the pickle says of it, `Held` for a tensor.
Every other name is refused. What comes out is turned into plain containers by `Plain`.

All else that the pickle can build is numbers, strings and containers. Nothing that it holds can be called but what
makes `Opaque` and `Held`, and none of their classes can be changed.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from superbench.errors import PluginError
from superbench_upstreams.checkpoints.wording import LONGEST

DTYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
# Names that stand for a container, a type or a value in training files of fairseq, s3prl, unilm and Lightning.
KNOWN = {
    "argparse": {"Namespace"},
    "_codecs": {"encode"},
    "_operator": {"getitem"},  # typing.Tuple[int, int], as omegaconf keeps it
    "numpy": {"dtype", "ndarray", "bool_", "float32", "float64", "int64"},
    "numpy.core.multiarray": {"scalar", "_reconstruct"},
    "numpy._core.multiarray": {"scalar", "_reconstruct"},
    "torch": {"Size", "device", "dtype", "Tensor", *DTYPES.values()},
    "torch.nn.parameter": {"Parameter"},
    "types": {"SimpleNamespace"},
}
TYPES = {"bool", "bytes", "complex", "dict", "float", "int", "list", "long", "object", "str", "tuple", "unicode"}
KNOWN["builtins"] = KNOWN["__builtin__"] = TYPES
# Whole packages whose classes are kept as data: configurations, enumerations, callbacks' and schedulers' states.
PACKAGES = (
    *("fairseq", "omegaconf", "typing", "enum", "pathlib", "easydict"),
    *("pytorch_lightning", "lightning", "lightning_fabric", "lightning_utilities"),
    *("s3prl.optimizers", "optimizers", "examples", "data2vec", "dinosr"),
)
TENSORS = ("_rebuild_tensor", "_rebuild_tensor_v2")  # functions of torch._utils
PARAMETERS = ("_rebuild_parameter", "_rebuild_parameter_with_state")


class _Sealed(type):
    """A class whose attributes a pickle cannot set."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"it sets {name!r} of a class")


class Opaque(metaclass=_Sealed):
    """What a pickle says of an instance of a class that is not there: the arguments it was made of, and its state."""

    __slots__ = ("args", "entries", "items", "state")
    origin = ("", "")  # module and name of the class
    args: tuple[Any, ...]
    state: Any
    entries: list[tuple[Any, Any]]
    items: list[Any]

    def __new__(cls, *args: Any, **_: Any) -> Opaque:
        self = super().__new__(cls)
        self.args, self.state, self.entries, self.items = args, None, [], []
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries.append((key, value))

    def append(self, item: Any) -> None:
        self.items.append(item)


class Entries(dict[Any, Any], metaclass=_Sealed):
    """A dictionary of collections: its default and its attributes are left out."""

    __slots__ = ()

    def __new__(cls, *_: Any, **__: Any) -> Entries:
        return super().__new__(cls)

    def __init__(self, *args: Any, **_: Any) -> None:
        pairs = args[0] if args and isinstance(args[0], (list, dict)) else ()
        super().__init__(pairs)

    def __setstate__(self, state: Any) -> None:
        pass


class Members(metaclass=_Sealed):
    """A set, as the list it was written as."""

    __slots__ = ("members",)

    def __init__(self, members: Any = ()) -> None:
        self.members = list(members) if isinstance(members, (list, tuple)) else []


class Storage:
    """Numbers that lie in a file: `start` and `key` say where."""

    __slots__ = ("dtype", "key", "numel", "start")

    def __init__(self, dtype: str, key: str, numel: int, start: int = 0) -> None:
        self.dtype, self.key, self.numel, self.start = dtype, key, numel, start


class Held:
    """A tensor that was not read yet: a view of a storage, offset and strides in elements."""

    __slots__ = ("offset", "size", "storage", "stride")

    def __init__(self, storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride


class _Rebuild:
    """What stands for one of torch's tensor makers; a pickle can call it, and change nothing of it."""

    __slots__ = ("_make",)
    _make: Callable[..., Any]

    def __init__(self, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "_make", make)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"it sets {name!r} of a function")

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)


class StorageType(str):
    """The type of a storage, which a pickle names but cannot call: the name of its numbers' type."""

    __slots__ = ()


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Held:
    numbers = (offset, *_numbers(size), *_numbers(stride))
    if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise pickle.UnpicklingError("it makes a tensor of something else than a storage and numbers")
    return Held(storage, offset, _numbers(size), _numbers(stride))


def _numbers(value: Any) -> tuple[Any, ...]:
    if isinstance(value, Opaque) and value.origin == ("torch", "Size") and len(value.args) == 1:
        value = value.args[0]
    if not isinstance(value, (tuple, list)):
        raise pickle.UnpicklingError("it makes a tensor whose size is no row of numbers")
    return tuple(value)


def _parameter(held: Any, *_: Any) -> Held:
    if not isinstance(held, Held):
        raise pickle.UnpicklingError("it makes a parameter of something else than a tensor")
    return held


class Unpickler(pickle._Unpickler):
    """Reads one pickle of `file`; `find_storage` answers the storages it refers to.

    Python's own, not the one in C: there, one damaged number in a file can ask for 30 GB of memory.
    """

    def __init__(self, file: BinaryIO, path: Path, find_storage: Callable[[Any], Storage] | None = None) -> None:
        super().__init__(file, encoding="utf-8", errors="surrogateescape")
        self._path, self._find_storage = path, find_storage
        self._classes: dict[tuple[str, str], Any] = {}

    def persistent_load(self, pid: Any) -> Storage:
        if self._find_storage is None:
            raise pickle.UnpicklingError("it refers to a storage where there is none")
        return self._find_storage(pid)

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for `module.name`, or refuse it by name."""
        found = self._classes.get((module, name))
        if found is None:
            found = self._classes[module, name] = self._stand_in(module, name)
        return found

    def _stand_in(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.cuda", "torch.storage") and name in DTYPES:
            return StorageType(DTYPES[name])
        if module == "torch._utils" and name in (*TENSORS, *PARAMETERS):
            return _Rebuild(_tensor if name in TENSORS else _parameter)
        if module == "collections" and name in ("OrderedDict", "defaultdict", "Counter"):
            return Entries
        if module in ("builtins", "__builtin__") and name in ("set", "frozenset"):
            return Members
        inside = any(module == package or module.startswith(f"{package}.") for package in PACKAGES)
        if name in KNOWN.get(module, ()) or (inside and name.isidentifier()):
            return _Sealed(name, (Opaque,), {"__slots__": (), "origin": (module, name)})
        named = f"{module}.{name}"
        raise PluginError(
            f"{self._path} keeps its weights in a pickle that holds more than tensors, so it was not opened: it names "
            f"{named if len(named) <= LONGEST else named[:LONGEST] + '...'}, which no checkpoint needs",
            "such a file can run any code where it is opened carelessly: get the checkpoint from those who trained it",
        )
