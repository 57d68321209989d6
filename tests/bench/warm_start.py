"""From opening a large store to the first step of training, against reading the bytes of its files.

A opens the store (in the note: how long that alone takes), asks what is missing, reads the time means of a corpus into
memory with their checksums, and takes one step with five learning rates. B reads every file of the store once. Entries
are small, so that it is their number that counts. The files lie in the page cache.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from superbench.contracts import sha256_of
from superbench.features.passes import Need
from superbench.features.reduction import Form
from superbench.features.store import SHARD, FeatureStore
from superbench.features.weighted_sum import Probe
from superbench.sampling import Pool, sampler
from superbench_downstreams.linear import LinearHead
from superbench_tasks.ks import TASK as KS

from . import encoder, our_manner
from .comparison import Comparison, alternate, seconds
from .contest import CLASSES, RATES

LAYERS, WIDTH = 2, 8  # of an entry


@dataclass(frozen=True, kw_only=True)
class Size:
    entries: int
    rounds: int


SMALL = Size(entries=100_000, rounds=3)
FULL = replace(SMALL, rounds=5)


def compare(size: Size) -> tuple[Comparison, ...]:
    """One line; the store is made first, which is not measured."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        contents = write_store(root, size.entries)
        files = [f for f in FeatureStore(root, "key", "pooled").folder.iterdir() if f.is_file()]
        opening: list[float] = []

        def start() -> None:
            kept: list[FeatureStore] = []
            opening.append(seconds(lambda: kept.append(FeatureStore(root, "key", "pooled"))))
            first_step(kept[0], contents)

        taken = alternate(
            {"A": lambda: seconds(start), "B": lambda: seconds(lambda: [f.read_bytes() for f in files])}, size.rounds
        )
    return (
        Comparison(
            benchmark="warm start",
            a="store opened, read, first step",
            b="its files read",
            unit="s",
            a_values=taken["A"],
            b_values=taken["B"],
            note=f"{size.entries} entries in {-(-size.entries // SHARD)} shards; opened in "
            f"{statistics.median(opening):.2g} s",
        ),
    )


def write_store(root: Path, entries: int) -> list[str]:
    """A store of so many small time means; their contents."""
    drawn = torch.Generator().manual_seed(0)
    contents = [sha256_of(i) for i in range(entries)]
    store = FeatureStore(root, "key", "pooled")
    for first in range(0, entries, SHARD):
        some = contents[first : first + SHARD]
        x_BLD = torch.randn(len(some), LAYERS, WIDTH, generator=drawn)
        store.write({content: [x] for content, x in zip(some, x_BLD, strict=True)})
    store.save_index()
    return contents


def first_step(store: FeatureStore, contents: list[str]) -> None:
    """What `run` does between opening a store that has everything and the end of the first step of KS."""
    assert not store.missing(contents), "every entry was written"
    some = encoder.utterances([torch.zeros(1)])[0]
    utterances = tuple(replace(some, id=str(i), content=content) for i, content in enumerate(contents))
    size = 4 * LAYERS * WIDTH
    heard = our_manner.Heard(
        store=store,
        need=Need(
            form=Form(name="pooled"),
            segments=utterances,
            sizes=(size,) * len(contents),
            bytes=size * len(contents),
            frames=len(contents),
            longest=1,
        ),
        utterances=utterances,
        lengths=(1,) * len(contents),
    )
    targets = [(i % CLASSES["ks"],) for i in range(len(contents))]
    items = tuple((i,) for i in range(len(contents)))
    batches = sampler(KS.protocol, Pool(items=items, seconds=[1.0] * len(contents), targets=targets), 0)
    candidates = our_manner.candidates_of(lambda: Probe(LAYERS, LinearHead(WIDTH, CLASSES["ks"], projector=256)), RATES)
    our_manner.train(candidates, heard.examples(targets), batches, 1, KS.protocol)
