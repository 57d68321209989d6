"""What a home holds: the bytes that must not depend on what befell the runs that wrote them."""

from __future__ import annotations

import fnmatch
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

from superbench.contracts import canonical_json

CHECKPOINT = ".checkpoint"
SAME = ("plan.json", "predictions*.jsonl", "head.safetensors", "result.json")  # of a run; and every shard of the store
TIMES = (
    "timings",
    "finished",
    "folder",
    "checksum",
)  # of a result: when, where, and the checksum that follows from them
SHARES = ("computed", "reused", "streamed", "seconds")  # of its features: what this process did itself


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """What a run leaves that nothing befalls, and the files it renamed, in order."""

    given: str  # the options of the run
    home: Path
    told: str  # on stderr
    contents: dict[str, bytes]
    writes: tuple[Path, ...]
    unsynced: tuple[Path, ...]  # of the writes: not on the disk before they were renamed

    @property
    def kinds(self) -> list[str]:
        """Of each write: the name of the file, or the pattern of names that differ."""
        return [p.name if p.suffix != CHECKPOINT and len(p.stem) < 32 else f"*{p.suffix}" for p in self.writes]

    def numbers(self, which: int) -> list[int]:
        """Numbers, from 1, of the first (0) or last (-1) write of each kind."""
        kinds = self.kinds
        return sorted([i for i, k in enumerate(kinds, 1) if k == kind][which] for kind in set(kinds))


def contents(home: Path) -> dict[str, bytes]:
    """Every whole file of a home that must be the same to the byte, by its path; of a result, what must be the same."""
    found = {}
    for path in sorted(home.rglob("*")):
        name = str(path.relative_to(home))
        shard = name.startswith("store") and path.suffix == ".safetensors"
        if path.name.startswith(".") or not (shard or any(fnmatch.fnmatch(path.name, pattern) for pattern in SAME)):
            continue
        found[name] = _lasting(path.read_bytes()) if path.name == "result.json" else path.read_bytes()
    return found


def _lasting(content: bytes) -> bytes:
    result = json.loads(content)
    features = result["features"]
    if features["where"] != "streamed":
        assert features["computed"] + features["reused"] == features["segments"]
    for name in TIMES:
        result.pop(name, None)
    result["environment"].pop("command")  # names the home
    for name in SHARES:
        features.pop(name, None)
    return canonical_json(result).encode()


def assert_whole(home: Path, expected: dict[str, bytes]) -> None:
    """Whatever stands under its own name is complete: as in a home that nothing befell, and checkpoints load."""
    import torch

    odd = [str(home / name) for name, content in contents(home).items() if content != expected.get(name)]
    assert not odd, odd
    for path in home.rglob(f"candidates/**/*{CHECKPOINT}"):
        with path.open("rb") as stream:
            facts, content = json.loads(stream.readline()), stream.read()
        assert hashlib.sha256(content).hexdigest() == facts["sha256"]
        assert torch.load(io.BytesIO(content), weights_only=True)


def assert_same(home: Path, expected: dict[str, bytes], *, mended: bool = False) -> None:
    """All of it is there, and none of it differs; nothing was put aside as damaged, or results say that it was."""
    found = contents(home)
    lacking = sorted(set(expected) - set(found))
    assert not lacking, lacking
    odd = [
        str(home / name)
        for name, content in found.items()
        if _said(name, content, mended) != _said(name, expected.get(name), mended)
    ]
    assert not odd, odd
    aside = [str(path) for path in home.rglob("*.corrupt-*")]
    assert bool(aside) == mended, aside


def _said(name: str, content: bytes | None, mended: bool) -> object:
    """The content; of a result that was mended, all but its warnings."""
    if content is None or not mended or not name.endswith("result.json"):
        return content
    result = json.loads(content)
    return {**result, "warnings": [], "features": {**result["features"], "warnings": []}}


def flip(path: Path, where: float, bit: int = 0) -> None:
    """Turn one bit of a file over: `where` is 0 at its first byte and 1 at its last."""
    content = bytearray(path.read_bytes())
    content[round(where * (len(content) - 1))] ^= 1 << bit
    path.write_bytes(content)


def only(home: Path, pattern: str) -> Path:
    """The first file of this pattern."""
    return sorted(p for p in home.rglob(pattern) if not p.name.startswith("."))[0]


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
