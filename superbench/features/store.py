"""Features on disk, by content: `ROOT/<2 of key>/<key>/<form>/<shard>.safetensors`.

A shard is written under a temporary name, synced, and renamed: it is whole or it is not there. Nothing rests on a lock
or on the index: two processes that compute the same write the same file, and the last one wins. What is damaged is put
aside, told, and computed again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from superbench.errors import DamagedError, ResourceError
from superbench.features.encoding import EncodedTensor, decode, encode
from superbench.features.open_shard import CODES, OpenShard, ReplacedError
from superbench.features.shards import SUFFIX, Content, shard_name, write_shard
from superbench.features.store_catalog import touch_used
from superbench.features.store_claims import Claims, drop_idle_claims
from superbench.features.store_index import StoreIndex
from superbench.features.stored_forms import folder_name
from superbench.writing import sweep, temporary_name

SHARD = 64  # segments per shard
MARGIN = 64 * 2**20  # bytes left free on the disk
OPEN_AT_MOST = 8192  # shards; each is a mapping, of which a process may have 65530 (Linux's vm.max_map_count)
ATTEMPTS = 10  # at a segment whose shards are damaged, or replaced by others while they are opened


def store_folder(root: Path, key: str, form: str, dtype: str = "float32") -> Path:
    """Where the entries of one upstream in one form lie."""
    return root / key[:2] / key / folder_name(form, dtype)


def room(place: Path) -> int:
    """Bytes that may be written at a place, which need not exist yet: what is free on its disk, less a margin."""
    while not place.exists():
        place = place.parent
    return max(0, shutil.disk_usage(place).free - MARGIN)


class FeatureStore:
    """The entries of one upstream in one form. An entry is a list of tensors: one per layer, or one of all layers.

    A `read_only` store creates, sweeps, marks and puts aside nothing: it is for looking at.
    """

    def __init__(self, root: Path, key: str, form: str, dtype: str = "float32", *, read_only: bool = False) -> None:
        self.folder = store_folder(root, key, form, dtype)
        self.form, self.dtype, self._read_only = form, dtype, read_only
        if not read_only:
            self._prepare(root)
        self._claims = Claims(self.folder)
        self._open: dict[str, OpenShard] = {}
        self._index = StoreIndex(self.folder, f"{key}/{self.folder.name}")
        self.refresh()
        if not read_only and self._index.changed:
            self._index.save()

    def _prepare(self, root: Path) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = temporary_name(self.folder / "probe")
            probe.touch()
            probe.unlink()
        except OSError as exc:
            raise ResourceError(
                f"the feature store at {root} cannot be written: {exc.strerror or exc}",
                "choose another place with --store-dir DIR, or mend its permissions",
            ) from exc
        sweep(self.folder)
        sweep(self.folder.parent)  # of what is said of the upstream
        drop_idle_claims(self.folder)
        touch_used(self.folder)

    @property
    def warnings(self) -> list[str]:
        """What was found damaged, in words for the user."""
        return self._index.warnings

    @property
    def segments(self) -> tuple[str, ...]:
        """All segments that are stored, sorted."""
        return tuple(sorted(self._index.where))

    def refresh(self) -> None:
        """Look at the folder again: find what other processes have written, forget what is gone."""
        for name in self._index.refresh(put_aside=not self._read_only):
            self._open.pop(name, None)

    def missing(self, segments: Iterable[str]) -> list[str]:
        """The segments that are not here; sorted, each once. Their numbers are not looked at until they are read."""
        self.refresh()
        return [s for s in sorted(set(segments)) if s not in self._index.where]

    def read(self, segment: str) -> list[Tensor]:
        """Tensors of one segment: float32 (float64 of a store in float64), memory-mapped where these are stored so.

        Their checksum is verified at the first reading. Raises `DamagedError` where they are damaged or gone: what is
        damaged has then been put aside, and the segment is one of those that are `missing`.
        """
        shard = self._shard(segment)
        entry = shard.header.entries[segment]
        values = [shard.tensor(piece) for piece in entry.values]
        if not entry.scales:
            return [decode(v, None) for v in values]
        return [decode(v, shard.tensor(s)) for v, s in zip(values, entry.scales, strict=True)]

    def read_pooled(self, segments: Sequence[str], out_NLD: Tensor, layer: int | None = None) -> None:
        """Read many time means into one tensor, row by row; of one layer: [N, 1, D]. Raises as `read` does."""
        for row, segment in zip(out_NLD, segments, strict=True):
            found = self.read(segment)
            if layer is None:
                row.copy_(found[0] if len(found) == 1 else torch.stack(found))
            else:
                row.copy_((found[0][layer] if len(found) == 1 else found[layer])[None])

    def frames(self, segment: str, layer: int | None) -> int:
        """Frames of a stored segment (of one layer), from the index alone. Raises `DamagedError` where it is gone."""
        if segment not in self._index.where:
            raise DamagedError(f"the features of segment {segment[:12]} are not in the store", "run the command again")
        lengths = self._index.frames(segment)
        return lengths[0 if len(lengths) == 1 or layer is None else layer]

    def require(self, bytes_needed: int) -> None:
        """Refuse before any work where the disk has no room for what will be written."""
        free = room(self.folder) + MARGIN  # also where the folder was deleted meanwhile
        if free < bytes_needed + MARGIN:
            raise ResourceError(
                f"{self.folder} has {free / 2**20:.0f} MiB free; the features need {bytes_needed / 2**20:.0f} MiB more",
                "free some space (`superbench store prune`), or choose another place with --store-dir DIR",
            )

    def write(self, entries: Mapping[str, Sequence[Tensor]]) -> None:
        """Write one shard: the same bytes for the same entries. Raises `NumericalError` where a form cannot hold it."""
        encoded = {segment: encode(tensors, self.dtype, segment) for segment, tensors in entries.items()}
        name = shard_name(entries) + SUFFIX
        contents = {segment: [_contents(e) for e in found] for segment, found in encoded.items()}
        frames = write_shard(self.folder / name, self._index.place, contents)
        self._open.pop(name, None)
        self._index.record(name, frames)

    def save_index(self) -> None:
        """Write what is known of the shards, so that the next process need not open them; at the end of a pass."""
        if not self._read_only:
            self._index.save()

    def claim(self, segments: Iterable[str]) -> bool:
        """Tell others that this process computes the shard of these segments; False where another one says so already.

        It is advice: two processes that do not heed it do the same work twice, and nothing else.
        """
        return self._claims.claim(shard_name(segments))

    def release(self, segments: Iterable[str]) -> None:
        """Take one's claim back: the shard is written, or will not be."""
        self._claims.release(shard_name(segments))

    def _shard(self, segment: str) -> OpenShard:
        """The open shard of a segment, checked. One that is wrong is put aside, and another looked for."""
        problem = f"the features of segment {segment[:12]} are not in the store"
        for _ in range(ATTEMPTS):
            name = self._index.where.get(segment)
            if name is None:
                break
            shard = self._open.get(name)
            try:
                if shard is None:
                    shard = OpenShard(self.folder / name, self._index.place)
                    if len(self._open) >= OPEN_AT_MOST:
                        del self._open[next(iter(self._open))]
                    self._open[name] = shard
                shard.verify(segment)
            except ReplacedError:  # by another process: what is there now is as good
                self._open.pop(name, None)
                self.refresh()
            except DamagedError as exc:
                problem = exc.message
                self._open.pop(name, None)
                if self._read_only or not (self.folder / name).exists():
                    self._index.forget(name)
                else:
                    self._index.put_aside(name, problem)
            else:
                return shard
        raise DamagedError(problem, "run the command again: they are computed again")


def _contents(encoded: EncodedTensor) -> tuple[Content, Content | None]:
    return _content(encoded.values), None if encoded.scales is None else _content(encoded.scales)


def _content(tensor: Tensor) -> Content:
    numbers = tensor.reshape(-1).view(torch.uint8).numpy().data
    return Content(code=CODES[tensor.dtype], shape=tuple(tensor.shape), data=numbers)
