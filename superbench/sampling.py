"""Which utterances a step trains on: for each way of sampling, a function of (seed, step) and of nothing else.

Every learning rate of a seed sees the same batches, no state has to be saved, and a resumed run goes on with the very
batches of one that was never stopped. What is drawn are recordings; of one that is a bank of crops, one crop each time.

- `shuffled`: epochs without end, each a permutation of the recordings, cut into batches. No batch is short.
- `balanced`: a class, then one of its recordings, each with equal chances, with replacement: what torch's
  WeightedRandomSampler draws with weights 1 / (recordings of the class).
- `length_buckets`: recordings by length, the longest first, in consecutive groups of a batch (the last one holds what
  is left); epochs are permutations of the groups.
- `label_windows`: recordings by number of labels, the most first; epochs are permutations of the recordings, and a
  batch is the one drawn with those that follow it in that order (at the end of it: the last whole batch).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from superbench.plugin import TaskProtocol

Batches = Callable[[int], list[list[int]]]
"""A step (from 0) to its batches: `accumulate` lists of utterances, each of which counts the same."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """What is drawn from. Facts are by utterance, over the whole corpus."""

    items: tuple[tuple[int, ...], ...]  # recordings: one utterance each, or the crops of a bank
    seconds: Sequence[float]
    targets: Sequence[tuple[int, ...]]  # label indices; of a classification one


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed that is a function of its parts and of nothing else."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def sampler(protocol: TaskProtocol, pool: Pool, seed: int) -> Batches:
    """The batches of one seed, drawn as the protocol says."""
    if protocol.sampling == "balanced":
        return _balanced(protocol, pool, seed)
    if protocol.sampling == "length_buckets":
        return _length_buckets(protocol, pool, seed)
    if protocol.sampling == "label_windows":
        return _label_windows(protocol, pool, seed)
    return _shuffled(protocol, pool, seed)


def dev_draw(protocol: TaskProtocol, pool: Pool, partition: str) -> list[int]:
    """Utterances of dev that the selection score counts: all, or as many as there are recordings, drawn once."""
    if protocol.dev_sampling == "all":
        return [i for item in pool.items for i in item]
    return balanced_draw(pool, len(pool.items), derived_seed("dev", protocol.dev_seed, partition))


def balanced_draw(pool: Pool, draws: int, seed: int) -> list[int]:
    """Utterances drawn with replacement: class, recording of it and crop of that, each with equal chances."""
    return _draw(_by_class(pool), draws, seed)


def _by_class(pool: Pool) -> list[list[tuple[int, ...]]]:
    classes: dict[int, list[tuple[int, ...]]] = {}
    for item in pool.items:
        classes.setdefault(pool.targets[item[0]][0], []).append(item)
    return [classes[c] for c in sorted(classes)]


def _draw(classes: list[list[tuple[int, ...]]], draws: int, seed: int) -> list[int]:
    chances = torch.rand(draws, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    found = []
    for by_class, by_item, by_crop in chances:
        items = classes[int(by_class * len(classes))]
        item = items[int(by_item * len(items))]
        found.append(item[int(by_crop * len(item))])
    return found


def _balanced(protocol: TaskProtocol, pool: Pool, seed: int) -> Batches:
    classes = _by_class(pool)

    def batches(step: int) -> list[list[int]]:
        drawn = _draw(classes, protocol.batch * protocol.accumulate, derived_seed(seed, "balanced", step))
        return _cut(drawn, protocol.batch)

    return batches


def _shuffled(protocol: TaskProtocol, pool: Pool, seed: int) -> Batches:
    at = _endless(seed, len(pool.items))
    size = protocol.batch * protocol.accumulate

    def batches(step: int) -> list[list[int]]:
        places = range(step * size, (step + 1) * size)
        return _cut([_crop(pool.items[at(p)], seed, p) for p in places], protocol.batch)

    return batches


def _length_buckets(protocol: TaskProtocol, pool: Pool, seed: int) -> Batches:
    order = sorted(range(len(pool.items)), key=lambda i: -pool.seconds[pool.items[i][0]])
    groups = _cut(order, protocol.batch)
    at = _endless(seed, len(groups))

    def batches(step: int) -> list[list[int]]:
        places = range(step * protocol.accumulate, (step + 1) * protocol.accumulate)
        return [[_crop(pool.items[i], seed, p) for i in groups[at(p)]] for p in places]

    return batches


def _label_windows(protocol: TaskProtocol, pool: Pool, seed: int) -> Batches:
    order = sorted(range(len(pool.items)), key=lambda i: -len(pool.targets[pool.items[i][0]]))
    at = _endless(seed, len(order))
    last = max(0, len(order) - protocol.batch)

    def batch(place: int) -> list[int]:
        first = min(at(place), last)
        window = [_crop(pool.items[i], seed, place) for i in order[first : first + protocol.batch]]
        long = protocol.halve_above is not None and pool.seconds[window[0]] > protocol.halve_above
        return window[: len(window) // 2] if long and len(window) > 1 else window

    def batches(step: int) -> list[list[int]]:
        return [batch(p) for p in range(step * protocol.accumulate, (step + 1) * protocol.accumulate)]

    return batches


def _endless(seed: int, size: int) -> Callable[[int], int]:
    """Permutation after permutation of `size` things, as one endless row: what stands at a place of it."""

    @lru_cache(maxsize=2)
    def epoch(number: int) -> list[int]:
        drawn = torch.Generator().manual_seed(derived_seed(seed, "epoch", number))
        found: list[int] = torch.randperm(size, generator=drawn).tolist()
        return found

    return lambda place: epoch(place // size)[place % size]


def _crop(item: tuple[int, ...], seed: int, place: int) -> int:
    """The one utterance of an item, or the crop of a bank that is drawn at one place of the row."""
    return item[derived_seed(seed, "crop", place, item[0]) % len(item)] if len(item) > 1 else item[0]


def _cut(row: list[int], size: int) -> list[list[int]]:
    return [row[first : first + size] for first in range(0, len(row), size)]
