"""Where the features of a run are to be: on the disk, in memory while it runs, or nowhere, computed when wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from superbench.errors import ResourceError
from superbench.features.passes import Need
from superbench.features.store import MARGIN, FeatureStore, room, store_folder
from superbench.sizes import said_bytes

Where = Literal["disk", "memory", "streamed"]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where features are to be, and why."""

    where: Where
    missing: frozenset[str]  # contents of the segments that are not on the disk
    bytes_missing: int  # that are to be written to the disk; 0 where nothing is
    room: int  # bytes that the disk has for them
    why: str

    @property
    def passes(self) -> str:
        """Who shares a pass of the upstream, in words."""
        if self.where == "streamed":
            return "a pass per epoch and seed, shared by its learning rates, and one over dev at every evaluation"
        return "one pass, shared by all learning rates, seeds, folds and epochs"


def place(
    need: Need, root: Path, key: str, *, task: str, asked: str, memory: int, beside: Sequence[tuple[Need, Placement]]
) -> Placement:
    """Decide by what was asked, the room on the disk, and the budget of memory; refuse what was asked and cannot be.

    `root` and `key` say where the store has them, `beside` what other tasks of the same upstream will write.
    """
    form = need.form
    sizes = {u.content: size for u, size in zip(need.segments, need.sizes, strict=True)}
    missing = set(sizes)
    if asked != "off" and store_folder(root, key, form.name, form.dtype).is_dir():
        missing = set(FeatureStore(root, key, form.name, form.dtype, read_only=True).missing(sizes))
    promised = [placed.missing for other, placed in beside if placed.where == "disk" and other.form == form]
    lacking = sum(sizes[content] for content in missing.difference(*promised))
    there = room(root) - sum(placed.bytes_missing for _, placed in beside)
    where: Where = "memory" if form.held(need.bytes) <= memory else "streamed"
    if not missing:
        where, why = "disk", "all of it is stored"
    elif asked == "off" or (asked == "pooled" and not form.pooled):
        why = f"--store {asked}"
    elif lacking <= there:
        where, why = "disk", "it fits"
    elif form.pooled or asked == "frames":
        smaller = "" if form.dtype in ("int8", "float64") else "a smaller --store-dtype, or "
        other = "keep nothing: --store off" if form.pooled else f"{smaller}stream: --store auto"
        raise ResourceError(
            f"task {task}: {root} has {said_bytes(max(0, there))} free; the features need {said_bytes(lacking)} more "
            f"({said_bytes(MARGIN)} of the disk are left alone)",
            f"free some space (`superbench store prune`), choose another place with --store-dir DIR, or {other}",
        )
    else:
        why = f"the disk has {said_bytes(max(0, there))} free, the frames need {said_bytes(lacking)}"
    return Placement(
        where=where,
        missing=frozenset(missing),
        bytes_missing=lacking if where == "disk" else 0,
        room=max(0, there),
        why=why,
    )
