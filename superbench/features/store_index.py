"""Which segment lies in which shard: known without opening a file, kept beside the shards, and never trusted.

    <16 hex: XXH3-64 of the rest>
    {"<shard>":[<size>,<mtime in ns>,{"<segment>":[<frames of each tensor>], ...}], ...}

The file is a memory of what the shards' headers said. What is new or changed since (by name, size or time) is read
again, and everything where the file is damaged or gone. Of two processes the last one to write it wins; what the other
knew costs the next one the reading of some headers. No torch here.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import xxhash

from superbench.errors import DamagedError, ResourceError
from superbench.features.shards import SUFFIX, read_header
from superbench.writing import write_whole

INDEX = "index"
CORRUPT = ".corrupt-"


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownShard:
    """What the index knows of a shard: how to tell that it is still the same file, and what is in it."""

    size: int
    mtime_ns: int
    frames: dict[str, list[int]]  # of each segment: the length of each of its tensors


class StoreIndex:
    """The shards of one form and the segments in them. A segment in several shards is read from the first by name."""

    def __init__(self, folder: Path, place: str) -> None:
        self.folder, self.place = folder, place
        self.shards: dict[str, KnownShard] = {}
        self.where: dict[str, str] = {}  # segment -> shard
        self.warnings: list[str] = []
        self.changed = False  # since it was read or written
        self._load()

    def _load(self) -> None:
        try:
            content = (self.folder / INDEX).read_bytes()
        except FileNotFoundError:
            return
        except OSError:
            content = b""
        checksum, _, rest = content.partition(b"\n")
        if checksum != xxhash.xxh3_64(rest).hexdigest().encode():
            self.changed = True  # damaged: all headers are read again
            return
        for name, (size, mtime_ns, frames) in json.loads(rest).items():
            self.shards[name] = KnownShard(size=size, mtime_ns=mtime_ns, frames=frames)
        self._find_all()

    def _find_all(self) -> None:
        self.where = {}
        for name in sorted(self.shards, reverse=True):
            self.where.update(dict.fromkeys(self.shards[name].frames, name))

    def refresh(self, *, put_aside: bool = True) -> set[str]:
        """Look at the folder again; returns the names of shards that are gone or other files now.

        Damaged shards are left out, and put aside unless told otherwise.
        """
        there: dict[str, os.stat_result] = {}
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                        with contextlib.suppress(FileNotFoundError):
                            there[entry.name] = entry.stat()
        except FileNotFoundError:
            pass
        except OSError as exc:
            raise ResourceError(f"{self.folder} cannot be listed: {exc.strerror or exc}", "mend that") from exc
        old = {n for n, known in self.shards.items() if n not in there or _other(known, there[n])}
        for name in old:
            del self.shards[name]
        if old:
            self.changed = True
            self._find_all()
        new = sorted(there.keys() - self.shards.keys())
        for name in new:
            try:
                header = read_header(self.folder / name, self.place)
            except DamagedError as exc:
                if put_aside:
                    self.put_aside(name, exc.message)
                continue
            self._add(name, there[name], {segment: entry.frames for segment, entry in header.entries.items()})
        return old

    def _add(self, name: str, found: os.stat_result, frames: dict[str, list[int]]) -> None:
        self.shards[name] = KnownShard(size=found.st_size, mtime_ns=found.st_mtime_ns, frames=frames)
        self.changed = True
        for segment in frames:
            self.where[segment] = min(name, self.where.get(segment, name))

    def record(self, name: str, frames: dict[str, list[int]]) -> None:
        """Remember a shard that was just written; one that is gone again already is not remembered."""
        with contextlib.suppress(FileNotFoundError):
            self._add(name, (self.folder / name).stat(), frames)

    def forget(self, name: str) -> None:
        """Do not look for anything in this shard any more."""
        if self.shards.pop(name, None) is not None:
            self.changed = True
            self._find_all()

    def put_aside(self, name: str, why: str) -> Path | None:
        """Rename a damaged shard (never delete it), forget it, and say so; None where another process was faster."""
        self.forget(name)
        shard = self.folder / name
        target = shard.with_suffix(f"{CORRUPT}{secrets.token_hex(4)}")
        try:
            shard.rename(target)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise ResourceError(
                f"{shard} is damaged ({why}) and cannot be put aside: {exc.strerror or exc}",
                "mend its permissions, or delete it",
            ) from exc
        self.warnings.append(f"damaged features put aside ({why}): {target.name}; they are computed again")
        return target

    def frames(self, segment: str) -> list[int]:
        """The length of each tensor of a segment, from the index alone."""
        return self.shards[self.where[segment]].frames[segment]

    def save(self) -> None:
        """Write the index, where it has changed, together with what others have written meanwhile.

        It is a convenience: where it cannot be written, the next process reads the headers.
        """
        self.refresh()
        if not self.changed:
            return
        shards = {n: [k.size, k.mtime_ns, k.frames] for n, k in sorted(self.shards.items())}
        rest = json.dumps(shards, separators=(",", ":")).encode()
        with contextlib.suppress(ResourceError):
            write_whole(self.folder / INDEX, [xxhash.xxh3_64(rest).hexdigest().encode(), b"\n", rest])
            self.changed = False


def _other(known: KnownShard, found: os.stat_result) -> bool:
    return (known.size, known.mtime_ns) != (found.st_size, found.st_mtime_ns)
