"""What there is under a store's root: upstreams by key, their forms, how they were called, and when they were used."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from superbench.contracts import canonical_json
from superbench.errors import ResourceError
from superbench.features.shards import SUFFIX
from superbench.features.store_index import CORRUPT, StoreIndex
from superbench.writing import write_whole

ABOUT = "about.json"  # in the key's folder: what a reader wants to know of the upstream
USED = "used"  # in the form's folder: its time is that of the last run that opened it


@dataclass(frozen=True, kw_only=True)
class StoredForm:
    """One upstream in one form, as it lies on the disk."""

    upstream: str  # as it was typed last; "" where nobody said
    key: str
    form: str  # "pooled", "frames", "frames-int8", ...
    entries: int
    shards: int
    bytes: int  # of all files in the folder, damaged ones too
    damaged: int  # shards that were put aside
    last_used: float  # seconds since 1970
    folder: str


def describe(root: Path, key: str, facts: Mapping[str, Any]) -> None:
    """Keep what an upstream is called (`facts["upstream"]`) and other facts beside its features.

    It is for people: where it cannot be written, nothing else suffers.
    """
    path = root / key[:2] / key / ABOUT
    content = (canonical_json(dict(facts)) + "\n").encode()
    with contextlib.suppress(OSError, ResourceError):
        if not path.exists() or path.read_bytes() != content:
            write_whole(path, content)


def touch_used(folder: Path) -> None:
    """Mark a form's folder as used now."""
    with contextlib.suppress(OSError):
        (folder / USED).touch()


def last_used(folder: Path) -> float:
    """When a form's folder was last used, in seconds since 1970; where that is not known, when it was last changed."""
    marker = folder / USED
    with contextlib.suppress(OSError):
        return (marker if marker.exists() else folder).stat().st_mtime
    return 0.0


def form_folders(root: Path) -> tuple[Path, ...]:
    """The folders of all upstreams and forms under a root, sorted. Nothing else there is ours."""
    return tuple(
        folder
        for folder in sorted(root.glob("??/*/*"))
        if folder.is_dir() and len(folder.parent.name) == 64 and folder.parent.name[:2] == folder.parent.parent.name
    )


def place_of(folder: Path) -> str:
    """How a form's folder is named in its shards: `KEY/FORM`."""
    return f"{folder.parent.name}/{folder.name}"


def stored_forms(root: Path) -> tuple[StoredForm, ...]:
    """Everything under a root, sorted by upstream and form. Nothing is changed."""
    found = []
    for folder in form_folders(root):
        index = StoreIndex(folder, place_of(folder))
        index.refresh(put_aside=False)
        sizes = file_sizes(folder)
        found.append(
            StoredForm(
                upstream=str(_about(folder.parent).get("upstream", "")),
                key=folder.parent.name,
                form=folder.name,
                entries=len(index.where),
                shards=sum(name.endswith(SUFFIX) for name in sizes),
                bytes=sum(sizes.values()),
                damaged=sum(CORRUPT in name for name in sizes),
                last_used=last_used(folder),
                folder=str(folder),
            )
        )
    return tuple(sorted(found, key=lambda f: (f.upstream, f.key, f.form)))


def file_sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file in a folder, by name."""
    sizes: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False):
                    sizes[entry.name] = entry.stat().st_size
    return sizes


def _about(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / ABOUT).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
