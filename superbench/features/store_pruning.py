"""Making room in a store: what is damaged or left over goes first, then whole shards, least recently used form first.

A run that has the store open goes on: what it has checked it still reads, and what is gone it computes again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from superbench.errors import ResourceError
from superbench.features.shards import SUFFIX
from superbench.features.store_catalog import ABOUT, USED, file_sizes, form_folders, last_used
from superbench.features.store_claims import idle_claims
from superbench.features.store_index import CORRUPT, INDEX
from superbench.writing import litter


@dataclass(frozen=True, kw_only=True)
class PrunedFile:
    """One file that goes, and why."""

    path: Path
    bytes: int
    why: str  # "damaged", "left over", "least recently used"


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """What has to go for a store to take no more than it may."""

    files: tuple[PrunedFile, ...]
    before: int  # bytes of the store
    after: int

    @property
    def freed(self) -> int:
        """Bytes that are freed."""
        return self.before - self.after


class _Choice:
    """Files that are chosen one after the other, until what is left is little enough."""

    def __init__(self, folders: Sequence[Path], max_bytes: int) -> None:
        self.sizes = {folder: file_sizes(folder) for folder in folders}
        self.sizes |= {key: {ABOUT: _size(key / ABOUT)} for f in folders if ((key := f.parent) / ABOUT).exists()}
        self.before = self.left = sum(sum(sizes.values()) for sizes in self.sizes.values())
        self.max_bytes = max_bytes
        self.files: dict[Path, PrunedFile] = {}

    @property
    def enough(self) -> bool:
        return self.left <= self.max_bytes

    def take(self, path: Path, why: str) -> None:
        """Choose a file, if it is there and not chosen yet."""
        size = self.sizes.get(path.parent, {}).get(path.name)
        if size is not None and path not in self.files:
            self.files[path] = PrunedFile(path=path, bytes=size, why=why)
            self.left -= size

    def rest(self, folder: Path) -> set[str]:
        """Names of the files in a folder that stay, but for those that say nothing alone."""
        return {n for n in self.sizes.get(folder, {}) if folder / n not in self.files} - {INDEX, USED, ABOUT}


def plan_pruning(root: Path, max_bytes: int) -> Pruning:
    """Choose the files that go. What a living process is writing is counted, and stays."""
    folders = form_folders(root)
    choice = _Choice(folders, max_bytes)
    for path, why in _worthless(folders, choice.sizes):
        if not choice.enough:
            choice.take(path, why)
    emptied: set[Path] = set()
    for folder in sorted(folders, key=lambda f: (last_used(f), f)):
        full = choice.enough and not any(path.parent == folder for path in choice.files)
        for shard in sorted(_shards(folder, choice.sizes[folder]), key=lambda s: (_mtime(s), s)):
            if not choice.enough:
                choice.take(shard, "least recently used")
        if full or choice.rest(folder):
            continue
        emptied.add(folder)
        for name in (INDEX, USED):
            choice.take(folder / name, "nothing else is left")
        if all(f in emptied for f in folders if f.parent == folder.parent):
            choice.take(folder.parent / ABOUT, "nothing else is left")
    return Pruning(files=tuple(choice.files.values()), before=choice.before, after=choice.left)


def _worthless(folders: Sequence[Path], sizes: Mapping[Path, Mapping[str, int]]) -> Iterator[tuple[Path, str]]:
    for folder in folders:
        yield from ((folder / name, "damaged") for name in sorted(sizes[folder]) if CORRUPT in name)
    for folder in folders:
        yield from ((path, "left over") for path in (*litter(folder), *idle_claims(folder)))


def _shards(folder: Path, sizes: Mapping[str, int]) -> list[Path]:
    return [folder / name for name in sizes if name.endswith(SUFFIX)]


def _mtime(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def carry_out(root: Path, pruning: Pruning) -> None:
    """Delete the chosen files, and folders that are empty then."""
    for file in pruning.files:
        try:
            file.path.unlink(missing_ok=True)
        except OSError as exc:
            raise ResourceError(
                f"{file.path} cannot be deleted: {exc.strerror or exc}", "mend its permissions, and prune again"
            ) from exc
    for folder in sorted({file.path.parent for file in pruning.files}, key=lambda f: -len(f.parts)):
        for empty in (folder, *folder.parents):
            if empty == root:
                break
            with contextlib.suppress(OSError):  # not empty: somebody writes there, or something else lies there
                empty.rmdir()
