"""The one place that imports torchaudio, because its last release (2.11.0) often cannot import itself.

Its wheel carries libraries built for one CUDA version. Beside a CPU build of torch they do not load, and beside a build
for another CUDA version a check refuses them; either way all of torchaudio fails, its pure-Python part included, and
`transformers` with it, since that imports torchaudio wherever it is installed. So `load` comes before any import of
transformers (reference/LIBRARIES.md section 1).
"""

from __future__ import annotations

import importlib
import sys
import threading
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import NoReturn

from superbench.errors import ResourceError

_lock = threading.Lock()

# Where, inside torchaudio, the two failures we know are raised.
_LIBRARY_MISSING = (OSError, "_load_lib")  # its libraries need CUDA's, and this torch has none
_CUDA_DIFFERS = (RuntimeError, "_check_cuda_version")  # its libraries did load; only their CUDA version is another


def load() -> ModuleType:
    """Return torchaudio, whole where it imports and its pure-Python part where its native library does not.

    Without the native library `forced_align` raises `ResourceError`; filter banks, MFCC, mel spectrograms, resampling
    and models are there. Every other failure to import is raised as it is. Calling again returns the same module.
    """
    with _lock:
        try:
            return importlib.import_module("torchaudio")
        except (OSError, RuntimeError) as error:
            native_loaded = _is(error, _CUDA_DIFFERS)
            if not native_loaded and not _is(error, _LIBRARY_MISSING):
                raise
            reason = str(error)
        for name in [name for name in sys.modules if name == "torchaudio" or name.startswith("torchaudio.")]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _extension(native_loaded, reason)
        return importlib.import_module("torchaudio")


def _is(error: BaseException, failure: tuple[type[BaseException], str]) -> bool:
    """Was `error` raised below the named function of torchaudio's extension loader?"""
    kind, function = failure
    frames = traceback.walk_tb(error.__traceback__)
    places = {(frame.f_globals.get("__name__"), frame.f_code.co_name) for frame, _ in frames}
    return isinstance(error, kind) and ("torchaudio._extension.utils", function) in places


def _extension(native_loaded: bool, reason: str) -> ModuleType:
    """What the rest of torchaudio asks of its `_extension` module: is the native part there, and can it align?"""
    align = False
    if native_loaded:
        import torch

        align = bool(torch.ops._torchaudio.is_align_available())

    def fail_if_no_align(function: Callable[..., object]) -> Callable[..., object]:
        return function if align else _refuse(function.__name__, reason)

    module = ModuleType("torchaudio._extension")
    vars(module).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=native_loaded,
        _IS_ALIGN_AVAILABLE=align,
        fail_if_no_align=fail_if_no_align,
    )
    return module


def _refuse(name: str, reason: str) -> Callable[..., NoReturn]:
    def refused(*_: object, **__: object) -> NoReturn:
        raise ResourceError(
            f"torchaudio's {name} needs its native library, which did not load: {reason}",
            "install the torch build whose CUDA version torchaudio was built for",
        )

    return refused
