"""What all tests share: no network, a home of their own, and the shared data where there is any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
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
