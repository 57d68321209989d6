"""The store: reading against computing again; and writing and reading against a plain copy of the same bytes.

In the first lines A computes the features of a batch and pads them, with a filter bank and with an encoder; B reads the
same batch, equal to the bit, and nothing is kept in memory between two readings, as where a corpus is larger than
memory. A first reading (headers, index, checksums) is set against a later one of the same process. In the last lines A
writes whole shards, or reads every entry once with its checksum; B copies, or reads, the same files, synced where A
syncs. The files were just written and lie in the page cache: ratios and MB/s are about our code, not about a disk. The
encoder is small: of one of base size A takes more, and B reads more.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from superbench.api import load_upstream
from superbench.features.extraction import LoadedUpstream
from superbench.features.store import SHARD, FeatureStore

from . import encoder, our_manner
from .comparison import Comparison, alternate, seconds

CALLS = 20  # readings that are timed as one: each takes but a millisecond
LAYERS, WIDTH = 13, 768  # of a base encoder


@dataclass(frozen=True, kw_only=True)
class Size:
    shape: encoder.Shape
    batch: int
    seconds: float  # of the longest recording
    shards: Mapping[str, tuple[int, int]]  # by form: shards of `SHARD` entries, and frames of an entry
    rounds: int


SMALL = Size(
    shape=encoder.SMALL, batch=8, seconds=4.0, shards={"pooled": (32, 1), "frames": (2, 50)}, rounds=5
)  # 82 and 256 MB
FULL = replace(SMALL, shape=encoder.BASE, shards={"pooled": (320, 1), "frames": (20, 50)}, rounds=3)


def compare(size: Size) -> tuple[Comparison, ...]:
    """Both upstreams, computed against read; a first reading against a later one; each form against plain files."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        loaded = encoder.random_encoder(root / "checkpoint", size.shape)
        filter_bank, _ = _measured("fbank_no_cmvn", load_upstream("fbank_no_cmvn"), root, size)
        name = f"encoder of {loaded.layers} x {size.shape.width}"
        computed, first = _measured(name, loaded, root, size)
        plain = [line for form in size.shards for line in _against_files(form, root / form, size)]
        return (filter_bank, computed, first, *plain)


def _measured(name: str, loaded: LoadedUpstream, root: Path, size: Size) -> tuple[Comparison, Comparison]:
    """Computed against read, and a first reading against a later one."""
    waves = encoder.waves(size.batch, size.seconds)
    heard = our_manner.extract(loaded, waves, "frames", root)
    indices = range(size.batch)

    def compute() -> Tensor:
        return encoder.padded(loaded(waves))[0]

    def read(heard: our_manner.Heard = heard) -> Tensor:
        return heard.examples([(0,)] * size.batch, budget=0).batch(indices)[0]

    def first() -> Tensor:
        return read(replace(heard, store=FeatureStore(root, loaded.key, "frames")))

    assert torch.equal(compute(), read()), f"{name}: what was read is not what is computed"
    taken = alternate(
        {
            "compute": lambda: seconds(compute),
            "first": lambda: seconds(first, CALLS),
            "read": lambda: seconds(read, CALLS),
        },
        size.rounds,
    )
    megabytes = heard.need.bytes / 1e6
    computed = Comparison(
        benchmark="store",
        a=f"{name}: computed",
        b="read from the store",
        unit="s",
        a_values=taken["compute"],
        b_values=taken["read"],
        note=f"{megabytes:.1f} MB of frames, read at {_rate(megabytes, taken['read'])}",
    )
    return computed, replace(computed, a=f"{name}: first reading", b="a later reading", a_values=taken["first"])


def _against_files(form: str, root: Path, size: Size) -> tuple[Comparison, Comparison]:
    """Writing shards and reading them against copying their files and reading these."""
    number, frames = size.shards[form]
    shape = (LAYERS, WIDTH) if form == "pooled" else (LAYERS, frames, WIDTH)
    drawn = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=drawn) for _ in range(SHARD)]
    # the same numbers under other names in every shard: it is their bytes that are written and checked
    shards = [{f"{s:032x}{i:032x}": [tensor] for i, tensor in enumerate(tensors)} for s in range(number)]
    tries = iter(range(10**6))

    def write() -> None:
        with _fresh(root / f"store{next(tries)}") as folder:
            fill(folder, shards, form)

    def copy(files: list[Path]) -> None:
        with _fresh(root / f"copy{next(tries)}") as folder:
            for file in files:
                copy_synced(file, folder / file.name)

    def read() -> None:
        store = FeatureStore(root / "kept", "key", form)
        for shard in shards:
            for segment in shard:
                store.read(segment)[0].clone()

    files = list(fill(root / "kept", shards, form).glob("*.safetensors"))
    buffer = bytearray(max(f.stat().st_size for f in files))
    megabytes = sum(f.stat().st_size for f in files) / 1e6
    taken = alternate(
        {
            "write": lambda: seconds(write),
            "copy": lambda: seconds(lambda: copy(files)),
            "read": lambda: seconds(read),
            "plain": lambda: seconds(lambda: read_into(buffer, files)),
        },
        size.rounds,
    )
    said = f"{number} shards, {megabytes:.0f} MB"
    written = Comparison(
        benchmark=f"store, {form}",
        a="written",
        b="files copied and synced",
        unit="s",
        a_values=taken["write"],
        b_values=taken["copy"],
        note=f"{said}; written at {_rate(megabytes, taken['write'])}, copied at {_rate(megabytes, taken['copy'])}",
    )
    return written, replace(
        written,
        a="opened, checked, read",
        b="files read",
        a_values=taken["read"],
        b_values=taken["plain"],
        note=f"{said}; checked and read at {_rate(megabytes, taken['read'])}, files at "
        f"{_rate(megabytes, taken['plain'])}",
    )


def fill(root: Path, shards: list[dict[str, list[Tensor]]], form: str) -> Path:
    """Write shards into a new store, and its index; return their folder."""
    store = FeatureStore(root, "key", form)
    for entries in shards:
        store.write(entries)
    store.save_index()
    return store.folder


def copy_synced(source: Path, target: Path) -> None:
    """Copy a file as fast as the system does it, and sync it, as the store syncs."""
    shutil.copyfile(source, target)
    with target.open("rb+") as stream:
        os.fsync(stream.fileno())


def read_into(buffer: bytearray, files: list[Path]) -> None:
    """Read every file into the same memory."""
    for file in files:
        with file.open("rb", buffering=0) as stream:
            assert stream.readinto(buffer) == file.stat().st_size, f"{file.name} was not read whole"


@contextmanager
def _fresh(folder: Path) -> Iterator[Path]:
    """A folder for one try. Deleting it is in the time of both sides."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
        yield Path(fresh)


def _rate(megabytes: float, taken: tuple[float, ...]) -> str:
    return f"{megabytes / statistics.median(taken):.0f} MB/s"
