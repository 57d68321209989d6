"""One file of stored features: a safetensors file that says what it is and can tell whether it still is.

    {"__metadata__":{"checksum":"<16 hex>","entries":"{<segment>:<16 hex>}","place":"<key>/<form>"},
     "<segment>/0":{"data_offsets":[0,39936],"dtype":"F32","shape":[13,768]}, ...}

`checksum` is XXH3-64 of all of the header behind it; that of an entry runs over its tensors' numbers, types and shapes.
The file's name is the hash of its segments' names, and its size what the header says: no bit can change unseen. Of int8
tensors the scales stand as `<segment>/0.scales`. Larger types come first, so that all lie aligned. No torch here.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from superbench.contracts import sha256_of
from superbench.errors import DamagedError, ResourceError
from superbench.features.stored_forms import NUMBERS
from superbench.writing import write_whole

SUFFIX = ".safetensors"
PREFIX = b'{"__metadata__":{"checksum":"'
CHUNK = 2**20  # bytes that are read at a time to be checked
BYTES = {number.code: number.bytes for number in NUMBERS.values()}
GONE = (errno.ENOENT, errno.ESTALE)
UNREADABLE = (errno.EIO, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP)


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """One tensor in a file: its type's code, its shape, and its place behind the header, in bytes."""

    code: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredEntry:
    """The tensors of one segment, in order; `scales` is empty, or has one piece for each."""

    checksum: str
    values: tuple[Piece, ...]
    scales: tuple[Piece, ...]

    @property
    def frames(self) -> list[int]:
        """Length of the time axis of each tensor; 1 where it has none."""
        return [piece.shape[-2] if len(piece.shape) > 1 else 1 for piece in self.values]

    def pieces(self) -> Iterator[Piece]:
        """Values and scales in the order in which they are summed up."""
        for i, piece in enumerate(self.values):
            yield piece
            yield from self.scales[i : i + 1]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardHeader:
    """What a shard holds; the numbers begin at byte `begin` of its `size` bytes."""

    entries: Mapping[str, StoredEntry]
    begin: int
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """One tensor to be written: its type's code, its shape, and its numbers, contiguous and little-endian."""

    code: str
    shape: tuple[int, ...]
    data: memoryview


def shard_name(segments: Iterable[str]) -> str:
    """The name of the shard of these segments, without its suffix: the same plan makes the same files."""
    return sha256_of(sorted(segments))[:32]


def write_shard(
    path: Path, place: str, entries: Mapping[str, Sequence[tuple[Content, Content | None]]]
) -> dict[str, list[int]]:
    """Write values, and scales where there are any, of each segment; returns the frames of each. Nothing is copied."""
    named: list[tuple[str, Content]] = []
    sums: dict[str, str] = {}
    frames: dict[str, list[int]] = {}
    for segment in sorted(entries):
        running = xxhash.xxh3_64()
        frames[segment] = []
        for i, (values, scales) in enumerate(entries[segment]):
            named.append((f"{segment}/{i}", values))
            frames[segment].append(values.shape[-2] if len(values.shape) > 1 else 1)
            if scales is not None:
                named.append((f"{segment}/{i}.scales", scales))
            for content in (values, scales):
                if content is not None:
                    running.update(_facts(content.code, content.shape))
                    running.update(content.data)
        sums[segment] = running.hexdigest()
    named.sort(key=lambda item: -BYTES[item[1].code])  # stable: else as above
    write_whole(path, [_header(place, sums, named), *(content.data for _, content in named)])
    return frames


def _facts(code: str, shape: Sequence[int]) -> bytes:
    return f"{code}{tuple(shape)};".encode()


def _header(place: str, sums: Mapping[str, str], named: Sequence[tuple[str, Content]]) -> bytes:
    rest: dict[str, object] = {}
    at = 0
    for name, content in named:
        end = at + content.data.nbytes
        rest[name] = {"data_offsets": [at, end], "dtype": content.code, "shape": list(content.shape)}
        at = end
    metadata = {"entries": json.dumps(sums, separators=(",", ":")), "place": place}
    # the checksum is spliced in front of what it covers
    covered = '",' + json.dumps(metadata, separators=(",", ":"))[1:]
    covered += "," + json.dumps(rest, separators=(",", ":"))[1:] if rest else "}"
    covered += " " * (-(len(PREFIX) + 16 + len(covered)) % 8)
    checksum = xxhash.xxh3_64(covered.encode()).hexdigest()
    header = PREFIX + checksum.encode() + covered.encode()
    return len(header).to_bytes(8, "little") + header


def opened(path: Path) -> int:
    """A file descriptor of a shard. Raises `DamagedError` where it is gone or cannot be read."""
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as exc:
        raise _told(path, exc) from exc


def _told(path: Path, exc: OSError) -> DamagedError | ResourceError:
    if exc.errno in GONE:
        return DamagedError(f"{path.name} is gone", "run the command again: its features are computed again")
    if exc.errno in UNREADABLE:
        return DamagedError(f"{path.name} cannot be read: {exc.strerror}", "run the command again")
    # too many open files, no memory: the shard is not to blame
    return ResourceError(f"{path} cannot be opened: {exc.strerror or exc}", "mend that, and run the command again")


def read_header(path: Path, place: str, descriptor: int | None = None) -> ShardHeader:
    """The header of a shard, checked from the first bit to the last. Raises `DamagedError` saying what is wrong."""
    if descriptor is None:
        descriptor = opened(path)
        try:
            return read_header(path, place, descriptor)
        finally:
            os.close(descriptor)
    try:
        size = os.fstat(descriptor).st_size
        length = int.from_bytes(os.pread(descriptor, 8, 0), "little")
        raw = os.pread(descriptor, length, 8) if length <= size - 8 else b""
    except OSError as exc:
        raise _told(path, exc) from exc
    covered = raw[len(PREFIX) + 16 :]
    whole = raw.startswith(PREFIX) and len(raw) == length
    if not whole or raw[len(PREFIX) : len(PREFIX) + 16] != xxhash.xxh3_64(covered).hexdigest().encode():
        raise DamagedError(f"the header of {path.name} is not what was written", "run the command again")
    header = _parsed(json.loads(raw), 8 + length, size, place, path)
    if path.name != shard_name(header.entries) + SUFFIX:
        raise DamagedError(f"{path.name} is not the name of what is in it", "run the command again")
    return header


def _parsed(found: dict[str, dict[str, str]], begin: int, size: int, place: str, path: Path) -> ShardHeader:
    metadata = found.pop("__metadata__")
    if metadata["place"] != place:
        raise DamagedError(f"{path.name} holds features of {metadata['place']}, not of {place}", "move it back there")
    pieces: dict[tuple[str, str], Piece] = {}
    counted: dict[str, int] = {}
    end = 0
    for name, facts in found.items():
        segment, _, which = name.rpartition("/")
        offsets, shape = facts["data_offsets"], facts["shape"]
        piece = Piece(code=facts["dtype"], shape=tuple(map(int, shape)), begin=int(offsets[0]), end=int(offsets[1]))
        pieces[segment, which] = piece
        counted[segment] = counted.get(segment, 0) + (not which.endswith(".scales"))
        end = max(end, piece.end)
    if begin + end != size:
        raise DamagedError(f"{path.name} has {size} bytes in place of {begin + end}", "run the command again")
    entries = {
        segment: StoredEntry(
            checksum=checksum,
            values=tuple(pieces[segment, str(i)] for i in range(counted.get(segment, 0))),
            scales=tuple(
                pieces[segment, f"{i}.scales"]
                for i in range(counted.get(segment, 0))
                if (segment, f"{i}.scales") in pieces
            ),
        )
        for segment, checksum in json.loads(metadata["entries"]).items()
    }
    return ShardHeader(entries=entries, begin=begin, size=size)


def check_entry(path: Path, header: ShardHeader, segment: str, descriptor: int) -> None:
    """Read the numbers of one entry and compare their checksum. Raises `DamagedError`."""
    entry = header.entries[segment]
    running = xxhash.xxh3_64()
    try:
        for piece in entry.pieces():
            running.update(_facts(piece.code, piece.shape))
            for at in range(header.begin + piece.begin, header.begin + piece.end, CHUNK):
                running.update(os.pread(descriptor, min(CHUNK, header.begin + piece.end - at), at))
    except OSError as exc:
        raise _told(path, exc) from exc
    if running.hexdigest() != entry.checksum:
        raise DamagedError(
            f"the numbers of {segment[:12]} in {path.name} are not what was written", "run the command again"
        )


def check_shard(path: Path, place: str) -> int:
    """Read all of a shard; returns its number of entries. Raises `DamagedError`."""
    descriptor = opened(path)
    try:
        header = read_header(path, place, descriptor)
        for segment in header.entries:
            check_entry(path, header, segment, descriptor)
    finally:
        os.close(descriptor)
    return len(header.entries)
