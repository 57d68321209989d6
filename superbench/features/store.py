"""Features on disk, by content: `ROOT/<2 of key>/<key>/<form>/<shard>.safetensors`.

A shard is written under a temporary name, synced, and renamed: it is whole or it is not there. Its header holds a
CRC-32 per entry. There is no other index: what is there is what the headers say, and nothing rests on a lock.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import time
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from superbench.contracts import sha256_of
from superbench.errors import IntegrityError, ResourceError
from superbench.writing import write_whole

SHARD = 64  # segments per shard
STALE = 24 * 3600  # seconds after which a temporary file is litter
MARGIN = 64 * 2**20  # bytes left free on the disk


def _crc(tensor: Tensor) -> int:
    return zlib.crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def store_folder(root: Path, key: str, form: str) -> Path:
    """Where the entries of one upstream in one form lie."""
    return root / key[:2] / key / form


class FeatureStore:
    """The entries of one upstream in one form. An entry is a list of tensors: one per layer, or one of all layers."""

    def __init__(self, root: Path, key: str, form: str) -> None:
        self.folder = store_folder(root, key, form)
        self.warnings: list[str] = []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".{secrets.token_hex(8)}.tmp"
            probe.touch()
            probe.unlink()
        except OSError as exc:
            raise ResourceError(
                f"the feature store at {root} cannot be written: {exc.strerror or exc}",
                "choose another place with --store DIR, or mend its permissions",
            ) from exc
        self._sweep()
        self._entries: dict[str, tuple[Path, int, int]] = {}  # segment -> shard, tensors, checksum
        self._checked: set[str] = set()
        self._open: dict[Path, Any] = {}
        for shard in sorted(self.folder.glob("*.safetensors")):
            self._index(shard)

    def _sweep(self) -> None:
        for litter in self.folder.glob(".*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - litter.stat().st_mtime > STALE:
                    litter.unlink()

    def _index(self, shard: Path) -> None:
        try:
            with safe_open(shard, framework="pt") as opened:
                entries = json.loads(opened.metadata()["entries"])
        except (SafetensorError, KeyError, TypeError, ValueError, OSError):
            self._quarantine(shard, "its header cannot be read")
            return
        for segment, (tensors, checksum) in entries.items():
            self._entries.setdefault(segment, (shard, tensors, checksum))

    def _quarantine(self, shard: Path, why: str) -> None:
        """Put a damaged shard aside (never deleted), forget its entries, and say so."""
        self._open.pop(shard, None)
        target = shard.with_suffix(f".corrupt-{secrets.token_hex(4)}")
        with contextlib.suppress(FileNotFoundError):
            shard.rename(target)
        self._entries = {s: e for s, e in self._entries.items() if e[0] != shard}
        self.warnings.append(f"damaged features put aside ({why}): {target.name}; they are computed again")

    def missing(self, segments: Iterable[str]) -> list[str]:
        """The segments that are not here, whole and with the right checksum; sorted, each once."""
        wanted = sorted(set(segments))
        for segment in wanted:
            if segment in self._entries and segment not in self._checked:
                try:
                    self.read(segment)
                except IntegrityError as exc:
                    if segment in self._entries:
                        self._quarantine(self._entries[segment][0], str(exc.message))
        return [s for s in wanted if s not in self._entries]

    def read(self, segment: str) -> list[Tensor]:
        """Tensors of one segment, memory-mapped; the checksum is verified at the first reading in a process."""
        if segment not in self._entries:
            raise IntegrityError(f"features of segment {segment[:12]} are not in the store", "run the command again")
        shard, tensors, checksum = self._entries[segment]
        try:
            if shard not in self._open:
                self._open[shard] = safe_open(shard, framework="pt")
            opened = self._open[shard]
            found: list[Tensor] = [opened.get_tensor(f"{segment}/{i}") for i in range(tensors)]
        except (SafetensorError, OSError) as exc:
            raise IntegrityError(f"{shard.name} cannot be read: {exc}", "run the command again") from exc
        if segment not in self._checked:
            if sum(_crc(t) for t in found) != checksum:
                raise IntegrityError(f"checksum of {segment[:12]} in {shard.name} is wrong", "run the command again")
            self._checked.add(segment)
        return found

    def frames(self, segment: str, layer: int | None) -> int:
        """Frames of a stored segment (of one layer), from the header alone."""
        shard, tensors, _ = self._entries[segment]
        if shard not in self._open:
            self._open[shard] = safe_open(shard, framework="pt")
        name = f"{segment}/{0 if tensors == 1 or layer is None else layer}"
        return int(self._open[shard].get_slice(name).get_shape()[-2])

    def require(self, bytes_needed: int) -> None:
        """Refuse before any work where the disk has no room for what will be written."""
        free = shutil.disk_usage(self.folder).free
        if free < bytes_needed + MARGIN:
            raise ResourceError(
                f"{self.folder} has {free / 2**20:.0f} MiB free; the features need {bytes_needed / 2**20:.0f} MiB more",
                "free some space, or choose another place with --store DIR",
            )

    def write(self, entries: Mapping[str, list[Tensor]]) -> None:
        """Write one shard. Its name follows from its segments, so that the same plan makes the same files."""
        header = {s: (len(ts), sum(_crc(t) for t in ts)) for s, ts in entries.items()}
        flat = {f"{s}/{i}": t.contiguous() for s, ts in entries.items() for i, t in enumerate(ts)}
        shard = self.folder / f"{sha256_of(sorted(entries))[:32]}.safetensors"
        write_whole(shard, save(flat, metadata={"entries": json.dumps(header, sort_keys=True)}))
        self._open.pop(shard, None)
        for segment, (tensors, checksum) in header.items():
            self._entries[segment] = (shard, tensors, checksum)
