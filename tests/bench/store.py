"""Reading a batch of frames from the store against computing it again, with a filter bank and with a small encoder.

A computes the features of a batch and pads them; B reads the same batch, which is equal to the bit. Nothing is kept in
memory between two readings, as where a corpus is larger than memory. The last line sets a first reading (headers,
lengths, checksums) against a later one of the same process. The files were just written and lie in the page cache: the
ratios and MB/s are about our code, not about a disk. The encoder is small: of one of base size A takes more, and B
reads more.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from superbench.api import load_upstream
from superbench.features.examples import RESIDENT, StoredExamples
from superbench.features.extraction import LoadedUpstream
from superbench.features.passes import ensure, need
from superbench.features.store import FeatureStore
from superbench.progress import Bar

from . import encoder
from .comparison import Comparison, alternate, seconds

CALLS = 20  # readings that are timed as one: each takes but a millisecond


@dataclass(frozen=True, kw_only=True)
class Size:
    shape: encoder.Shape
    batch: int
    seconds: float  # of the longest recording
    rounds: int


SMALL = Size(shape=encoder.SMALL, batch=8, seconds=4.0, rounds=5)
FULL = replace(SMALL, shape=encoder.BASE, rounds=3)


def compare(size: Size) -> tuple[Comparison, ...]:
    """Both upstreams: computed against read; and for the encoder, a first reading against a later one."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        loaded = encoder.random_encoder(root / "checkpoint", size.shape)
        filter_bank, _ = _measured("fbank_no_cmvn", load_upstream("fbank_no_cmvn"), root, size)
        name = f"encoder of {loaded.layers} x {size.shape.width}"
        return (filter_bank, *_measured(name, loaded, root, size))


def _measured(name: str, loaded: LoadedUpstream, root: Path, size: Size) -> tuple[Comparison, Comparison]:
    """Computed against read, and a first reading against a later one."""
    waves = encoder.waves(size.batch, size.seconds)
    named = encoder.utterances(waves)
    by_id = dict(zip((u.id for u in named), waves, strict=True))
    wanted = need(loaded, named, "frames")
    ensure(loaded, FeatureStore(root, loaded.key, "frames"), wanted, lambda u: by_id[u.id], bar=Bar())

    def compute() -> torch.Tensor:
        return encoder.padded(loaded(waves))[0]

    def open_store() -> StoredExamples:
        return StoredExamples(
            FeatureStore(root, loaded.key, "frames"),
            [u.content for u in named],
            [(0,)] * size.batch,
            form="frames",
            layer=None,
            device="cpu",
            bytes_in_all=RESIDENT + 1,  # as if there were more than is kept in memory
        )

    examples, indices = open_store(), range(size.batch)
    assert torch.equal(compute(), examples.batch(indices)[0]), f"{name}: what was read is not what is computed"
    taken = alternate(
        {
            "compute": lambda: seconds(compute),
            "first": lambda: seconds(lambda: open_store().batch(indices), CALLS),
            "read": lambda: seconds(lambda: examples.batch(indices), CALLS),
        },
        size.rounds,
    )
    megabytes = wanted.bytes / 1e6
    note = f"{megabytes:.1f} MB of frames, read at {megabytes / statistics.median(taken['read']):.0f} MB/s"
    computed = Comparison(
        benchmark="store",
        a=f"{name}: computed",
        b="read from the store",
        unit="s",
        a_values=taken["compute"],
        b_values=taken["read"],
        note=note,
    )
    return computed, replace(computed, a=f"{name}: first reading", b="a later reading", a_values=taken["first"])
