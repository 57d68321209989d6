"""How everything that must be whole is written: what exists under its name is complete."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from superbench.errors import ResourceError
from superbench.processes import process_tag, state_of

STALE = 24 * 3600  # seconds after which an unfinished file of another machine is litter
UNFINISHED = re.compile(r"-([0-9a-f]{8}-[0-9]+)-[0-9a-f]{8}\.tmp$")


def temporary_name(path: Path) -> Path:
    """A name beside `path` for a file in the making: it says which process makes it."""
    return path.with_name(f".{path.name}-{process_tag()}-{secrets.token_hex(4)}.tmp")


def write_whole(path: Path, content: bytes | Sequence[bytes | memoryview]) -> None:
    """Write under another name, sync, rename, sync the folder. Several pieces are written in turn, uncopied.

    Raises `ResourceError` naming the file and its bytes.
    """
    pieces = [content] if isinstance(content, bytes) else content
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as exc:
        size = sum(memoryview(piece).nbytes for piece in pieces)
        raise ResourceError(
            f"{path} could not be written ({size} bytes): {exc.strerror or exc}",
            "check the path, space and permissions, and run the same command again: a run goes on where it was, "
            "and finished shards are kept",
        ) from exc
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()  # there only where the writing failed or was interrupted
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk too, where that can be done: without it a power cut costs the file, no more."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def litter(folder: Path) -> Iterator[Path]:
    """Files that were never finished and that nobody writes any more: of a dead process, or older than a day.

    What a living process of this machine writes is no litter, however old.
    """
    for path in sorted(folder.glob(".*.tmp")):
        found = UNFINISHED.search(path.name)
        state = state_of(found[1]) if found else "unknown"
        with contextlib.suppress(OSError):
            if state == "dead" or (state == "unknown" and time.time() - path.stat().st_mtime > STALE):
                yield path


def sweep(folder: Path) -> None:
    """Delete the litter of a folder."""
    for path in litter(folder):
        with contextlib.suppress(OSError):
            path.unlink()
