"""Candidates on disk: one file per group, written beside and renamed, with a checksum of its own.

A file is one line of JSON (`members`, `done`, `sha256` of the rest), then what `torch.save` writes. While a group
trains, the file holds its state at the last evaluation; when it is done, what came of it, for good.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from superbench.contracts import canonical_json, sha256_of
from superbench.progress import Bar
from superbench.writing import write_whole

HEADER_BYTES = 2**20  # a first line that is longer is none of ours


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A file, and what its first line says of it."""

    path: Path
    members: tuple[str, ...]  # names of the candidates
    done: bool


def path_of(folder: Path, members: Sequence[str]) -> Path:
    """Where a group of candidates is kept: its name follows from theirs."""
    return folder / f"{sha256_of(sorted(members))[:32]}.checkpoint"


def save(path: Path, members: Sequence[str], state: dict[str, Any], *, done: bool) -> None:
    """Write beside and rename: the last whole one is always there."""
    buffer = io.BytesIO()
    torch.save(_interned(state), buffer)
    content = buffer.getbuffer()
    facts = {"members": list(members), "done": done, "sha256": hashlib.sha256(content).hexdigest()}
    write_whole(path, canonical_json(facts).encode() + b"\n" + content)


def _interned(state: Any) -> Any:
    """The same with one string per name: pickle writes equal strings otherwise where they are not one object."""
    if isinstance(state, str):
        return sys.intern(state)
    if type(state) is dict:
        return {_interned(name): _interned(value) for name, value in state.items()}
    return [_interned(value) for value in state] if type(state) is list else state


def listed(folder: Path, bar: Bar) -> list[Checkpoint]:
    """All groups that are kept here, by name; one whose first line is damaged is put aside."""
    found = []
    for path in sorted(folder.glob("*.checkpoint")):
        try:
            with path.open("rb") as stream:
                facts = json.loads(stream.readline(HEADER_BYTES))
            members = tuple(facts["members"])
            if path != path_of(folder, members):
                raise ValueError("its name is not that of its members")
            found.append(Checkpoint(path=path, members=members, done=bool(facts["done"])))
        except FileNotFoundError:
            continue  # another process, which trains the same, has put it aside
        except (ValueError, KeyError, TypeError) as exc:
            put_aside(path, type(exc).__name__, bar)
    return found


def load(checkpoint: Checkpoint, device: str, bar: Bar) -> dict[str, Any] | None:
    """The state of a group; None where its bytes are not what was written: it is put aside, and trained again."""
    try:
        with checkpoint.path.open("rb") as stream:  # another process may have written a later state meanwhile
            first, content = stream.readline(HEADER_BYTES), stream.read()
    except FileNotFoundError:
        return None
    if f'"sha256":"{hashlib.sha256(content).hexdigest()}"'.encode() not in first:
        put_aside(checkpoint.path, "its checksum is wrong", bar)
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True, map_location=device)
    return state


def put_aside(path: Path, why: str, bar: Bar) -> None:
    """Rename a damaged file, never delete it, and say so."""
    aside = path.with_suffix(f".corrupt-{secrets.token_hex(4)}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return  # another process has put it aside, and said so
    bar.warn(f"{path.name} was damaged ({why}) and put aside as {aside.name}; its candidates are trained again")
