"""Advice among processes that fill one store: "this shard is being computed". Nothing correct ever rests on it.

A claim is a file `.NAME.claim` that holds its process's tag. It counts while that process lives (on this machine), or
while it is fresh (on another). Two processes may hold one claim after an unlucky moment: then both compute the shard.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from superbench.processes import process_tag, state_of

SUFFIX = ".claim"
FRESH = 600  # seconds for which another machine's claim is believed: it is renewed by claiming again


class Claims:
    """The claims in one form's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, name: str) -> Path:
        return self._folder / f".{name}{SUFFIX}"

    def claim(self, name: str) -> bool:
        """Claim, or renew one's claim; False where somebody else's counts. What cannot be written is not claimed."""
        path = self._path(name)
        try:
            for _ in range(2):
                with contextlib.suppress(FileExistsError):
                    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
                    try:
                        os.write(descriptor, process_tag().encode())
                    finally:
                        os.close(descriptor)
                    return True
                if _holder(path) == process_tag():
                    os.utime(path)
                    return True
                if counts(path):
                    return False
                path.unlink(missing_ok=True)
        except OSError:
            return True  # no advice to be had here: the shard is computed
        return False

    def release(self, name: str) -> None:
        """Take one's own claim back; somebody else's stays."""
        path = self._path(name)
        with contextlib.suppress(OSError):
            if _holder(path) == process_tag():
                path.unlink()


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def counts(path: Path) -> bool:
    """Whether a claim is still to be believed."""
    state = state_of(_holder(path))
    if state != "unknown":
        return state == "alive"
    try:
        return abs(time.time() - path.stat().st_mtime) < FRESH
    except OSError:
        return False


def idle_claims(folder: Path) -> Iterator[Path]:
    """Claims that count no more."""
    yield from (path for path in sorted(folder.glob(f".*{SUFFIX}")) if not counts(path))


def drop_idle_claims(folder: Path) -> None:
    """Delete the claims that count no more."""
    for path in idle_claims(folder):
        with contextlib.suppress(OSError):
            path.unlink()
