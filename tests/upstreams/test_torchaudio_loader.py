"""The loader gives torchaudio wherever its Python part can be imported, and hides no other failure."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from superbench import torchaudio_loader


def test_it_gives_the_pure_python_part_once_and_to_all_threads() -> None:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(torchaudio_loader.load())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(module is sys.modules["torchaudio"] for module in found)
    torchaudio = torchaudio_loader.load()
    assert torchaudio is found[0]
    assert callable(torchaudio.compliance.kaldi.fbank)
    assert callable(torchaudio.functional.compute_deltas)


FAKE_EXTENSION = "from .utils import _check_cuda_version, _load_lib\n{call}\n"
FAKE_FUNCTIONS = """
def _load_lib(name):
    raise {error}

def _check_cuda_version():
    raise {error}
"""


def _import_fake(tmp_path: Path, *, package: str, call: str, error: str) -> subprocess.CompletedProcess[str]:
    """Load a make-believe torchaudio, which fails as told, in a process of its own."""
    root = tmp_path / "torchaudio"
    (root / "_extension").mkdir(parents=True)
    (root / "__init__.py").write_text(package)
    (root / "_extension" / "__init__.py").write_text(FAKE_EXTENSION.format(call=call))
    (root / "_extension" / "utils.py").write_text(FAKE_FUNCTIONS.format(error=error))
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from superbench import torchaudio_loader\n"
        "module = torchaudio_loader.load()\n"
        "assert torchaudio_loader.load() is module\n"
        "print(module._extension._IS_TORCHAUDIO_EXT_AVAILABLE)\n"
        "try:\n"
        "    module._extension.fail_if_no_align(len)([])\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_a_library_that_does_not_load_leaves_the_python_part(tmp_path: Path) -> None:
    done = _import_fake(tmp_path, package="from . import _extension", call="_load_lib('x')", error="OSError('no CUDA')")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("False\nResourceError")
    assert "no CUDA" in done.stdout


@pytest.mark.parametrize(
    ("package", "call", "error"),
    [
        ("from . import _extension", "_load_lib('x')", "RuntimeError('another failure')"),
        ("from . import _extension", "_check_cuda_version()", "OSError('another failure')"),
        ("from . import _extension", "_load_lib('x')", "ImportError('another failure')"),
        ("raise OSError('another failure')", "pass", "OSError('unused')"),
        ("raise RuntimeError('another failure')", "pass", "OSError('unused')"),
    ],
)
def test_every_other_failure_is_raised_as_it_is(tmp_path: Path, package: str, call: str, error: str) -> None:
    done = _import_fake(tmp_path, package=package, call=call, error=error)
    assert done.returncode == 1
    assert "another failure" in done.stderr.splitlines()[-1]
    assert done.stdout == ""


LOADED_BUT_REFUSED = """
import sys, torch
sys.library = torch.library.Library("_torchaudio", "DEF")
sys.library.define("is_align_available() -> bool")
sys.library.impl("is_align_available", lambda: True, "CompositeExplicitAutograd")
_check_cuda_version()
"""


def test_another_cuda_version_keeps_the_library_that_did_load(tmp_path: Path) -> None:
    package, error = "from . import _extension", "RuntimeError('13.2 whereas 13.0')"
    done = _import_fake(tmp_path, package=package, call=LOADED_BUT_REFUSED, error=error)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"  # and aligning is not refused
