"""What goes through the heads at a time: the effective batch of a step, cut into micro-batches, prepared ahead."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from superbench import augmentation as augmenting
from superbench.plugin import TaskProtocol
from superbench.sampling import Batches, derived_seed
from superbench.training.objectives import Targets

Prepared = TypeVar("Prepared")
AHEAD = 2  # steps whose features are read while others are computed on


class Examples(Protocol):
    """Features and targets of a corpus, by index."""

    lengths: tuple[int, ...]  # frames of each utterance (1 where pooled)
    targets: tuple[tuple[int, ...], ...]

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Features of some utterances, x_BLD or padded x_BLTD, on the device; and lengths_B, or None where pooled."""
        ...

    def expect(self, coming: Iterator[list[int]]) -> int:
        """Make ready for the utterances of coming steps, as many steps as there is room for; 0: for any there are."""
        ...

    @property
    def reads_ahead(self) -> bool:
        """May another thread call `batch` while this one trains?"""
        ...


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """A part of an effective batch: as much as goes through the heads at a time; of several lanes, one by one."""

    x: Tensor  # x_BLD or x_BLTD, on the device; S lanes: [S x B, L, D]
    lengths: Tensor | None  # lengths_B, on the CPU; None where pooled
    targets: Targets
    shares: Tensor  # [B]: what each utterance's loss counts in the loss of the step; they sum to 1 over it
    augment: Callable[[Tensor, Tensor], Tensor] | None = None  # what happens to the weighted sum, in training
    place: tuple[int, int, int] | None = None  # seed, step, place in the effective batch of the first: for dropout


@dataclass(frozen=True, kw_only=True)
class Order:
    """The utterances of one lane's steps: of a seed, on a partition."""

    seed: int
    batches: Batches

    def indices(self, step: int) -> list[int]:
        """All utterances of a step, as they are drawn."""
        return [i for batch in self.batches(step) for i in batch]


def micro_batches(
    orders: Sequence[Order], examples: Examples, step: int, *, protocol: TaskProtocol, size: int
) -> list[MicroBatch]:
    """The effective batches of a step, one per order, in parts of at most `size` utterances each.

    Each batch of an effective batch counts the same, and within one each utterance, whatever the parts, which hold
    utterances of like length. What augments them, and drops out, is drawn for the whole effective batch. Several orders
    have effective batches of the same number of utterances, and are not augmented.
    """
    drawn = [order.batches(step) for order in orders]
    rows = [_by_length(batches, examples) for batches in drawn]
    assert len({len(row) for row in rows}) == 1, "orders that train together have effective batches of one size"
    augmentation = None
    micro: list[MicroBatch] = []
    for first in range(0, len(rows[0]), size):
        parts = [row[first : first + size] for row in rows]
        indices = [i for part in parts for i, _ in part]
        x, lengths = examples.batch(indices)
        if protocol.augment and augmentation is None:
            frames = [examples.lengths[i] for i, _ in rows[0]]
            seed = derived_seed(orders[0].seed, "augment", step)
            augmentation = augmenting.draw(protocol.augment, frames, x.shape[-1], seed)
        micro.append(
            MicroBatch(
                x=x,
                lengths=lengths,
                targets=Targets.of([examples.targets[i] for i in indices], x.device),
                shares=torch.tensor([share for part in parts for _, share in part], dtype=x.dtype, device=x.device),
                augment=augmentation[first : first + size] if augmentation else None,
                place=(orders[0].seed, step, first),
            )
        )
    return micro


def _by_length(batches: list[list[int]], examples: Examples) -> list[tuple[int, float]]:
    """Utterances with their share in the loss of the step, the shortest first."""
    row = [(i, 1 / len(batch) / len(batches)) for batch in batches for i in batch]
    return sorted(row, key=lambda pair: examples.lengths[pair[0]])


def ahead(make: Callable[[int], Prepared], steps: Iterable[int], number: int) -> Iterator[tuple[int, Prepared]]:
    """What `make` gives for each step, in order; made by another thread, up to `number` steps before it is wanted."""
    if number == 0:
        for step in steps:
            yield step, make(step)
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader") as reader:
        coming: list[tuple[int, Future[Prepared]]] = []
        waiting = iter(steps)
        try:
            for step in itertools.islice(waiting, number):
                coming.append((step, reader.submit(make, step)))
            while coming:
                step, future = coming.pop(0)
                found = future.result()
                coming += [(later, reader.submit(make, later)) for later in itertools.islice(waiting, 1)]
                yield step, found
        finally:
            for _, future in coming:
                future.cancel()
