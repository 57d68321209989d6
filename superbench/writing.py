"""How everything that must be whole is written: what exists under its name is complete."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from superbench.errors import ResourceError


def write_whole(path: Path, content: bytes) -> None:
    """Write under another name, sync, rename. Raises `ResourceError` naming the file and its bytes."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise ResourceError(
            f"{path} could not be written ({len(content)} bytes): {exc.strerror or exc}",
            "check the path, space and permissions, and run the same command again: a run goes on where it was, "
            "and finished shards are kept",
        ) from exc
