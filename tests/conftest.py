"""What all tests share: no network, a home of their own, and the shared data where there is any."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sounds import make_tones

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("SUPERBENCH_PLUGINS", None)


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has an empty home: nothing of the user's is read or written."""
    for name in ("SUPERBENCH_STORE", "SUPERBENCH_RUNS", "SUPERBENCH_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SUPERBENCH_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings and golden data; tests that need it are skipped where it is not given."""
    given = os.environ.get("SUPERBENCH_SHARED")
    if not given:
        pytest.skip("SUPERBENCH_SHARED is not set: no real recordings and golden data here")
    return Path(given).resolve()


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How one command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def superbench(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run one command line in this process: `superbench("run", "-u", ...)`; a quarter of a second for a small run."""
    from superbench.cli.main import invoke

    def run(*arguments: object) -> Ended:
        capfd.readouterr()
        code = invoke([str(a) for a in arguments])
        captured = capfd.readouterr()
        return Ended(code=code, out=captured.out, err=captured.err)

    return run


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[..., Path]:
    """Write a stranger's file for `-p`."""

    def write(text: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a corpus of 12 + 6 + 6 short sounds of three kinds; `folds.csv` beside it has three folds."""
    return make_tones(tmp_path_factory.mktemp("tones"), {"train": 12, "dev": 6, "test": 6})
