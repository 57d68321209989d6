"""Five learning rates of KS trained together, against each alone: what a step takes, and what it does to the score.

A is five searches of one learning rate, one after the other, each reading the same batches; B is one of five. Both go
through `micro_batches` and `Candidates`, have the same first weights and must have the same losses. The time is that of
a step of all five, reading from memory, gradients, clip and Adam included. The ratio is about small pooled features on
a CPU, where the count of operations costs more than the products: it falls as the head gets larger.

The other lines are of float32: dev scores of candidates fitted alone and together, one value per seed, and in the note
the largest difference beside the standard deviation over seeds. Rounding alone makes a difference, which grows with the
learning rate and the steps, as it does between two machines; in float64 there is none (tests/core/test_fitting.py).
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from superbench.features.weighted_sum import Probe
from superbench.plugin import TaskProtocol
from superbench.progress import Bar
from superbench.sampling import Pool, sampler
from superbench.training.batches import Order, micro_batches
from superbench.training.candidates import Candidates
from superbench.training.fitting import Lane, Trial, fit
from superbench_downstreams.linear import LinearHead

from .comparison import Comparison, alternate, seconds

RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
CLASSES, PROJECTOR = 12, 256  # of KS
PROTOCOL = TaskProtocol(
    head="pooled_linear",
    objective="cross_entropy",
    metrics=("accuracy",),
    steps=200,
    batch=32,
    accumulate=1,
    eval_every=20,
    clip=1.0,
    lr_grid=RATES,
)


@dataclass(frozen=True, kw_only=True)
class Size:
    shapes: tuple[tuple[int, int], ...]  # layers and features, one comparison each
    recordings: int
    steps: int  # that are timed, in every round
    rounds: int
    fitted: tuple[int, int]  # layers and features of the fits whose scores are compared
    trained: int  # steps of each
    seeds: int


SMALL = Size(shapes=((13, 768), (1, 240)), recordings=2000, steps=10, rounds=5, fitted=(3, 64), trained=200, seeds=5)
FULL = replace(SMALL, recordings=10_000, steps=100, fitted=(13, 768), trained=2000)


class Pooled:
    """Time means in memory, drawn around the means of their classes."""

    reads_ahead = False

    def __init__(self, layers: int, width: int, recordings: int) -> None:
        drawn = torch.Generator().manual_seed(0)
        classes = torch.randint(CLASSES, (recordings,), generator=drawn)
        means_KD = torch.randn(CLASSES, width, generator=drawn) * 2 / width**0.5  # so near that not all are told apart
        self.x_LND = torch.randn(layers, recordings, width, generator=drawn) + means_KD[classes]
        self.lengths = (1,) * recordings
        self.targets = tuple((k,) for k in classes.tolist())

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, None]:
        return self.x_LND.index_select(1, torch.as_tensor(list(indices))).transpose(0, 1), None

    def expect(self, coming: Iterator[list[int]]) -> int:
        return 0


def compare(size: Size) -> tuple[Comparison, ...]:
    """One comparison of time per shape, and one of scores per learning rate."""
    return (*(compare_speed(*shape, size) for shape in size.shapes), *compare_scores(size))


def compare_speed(layers: int, width: int, size: Size) -> Comparison:
    """What a step of five learning rates takes, in ms."""
    examples = Pooled(layers, width, size.recordings)
    order = _order(0, range(size.recordings), examples)

    def run(lrs: Sequence[float]) -> Callable[[], list[list[float]]]:
        """A search that goes on where it was: each call is so many steps of it, and gives their losses."""
        models = []
        for _ in lrs:
            torch.manual_seed(0)
            models.append(_built(layers, width))
        candidates = Candidates(models, lrs)
        candidates.train()
        done = 0

        def steps() -> list[list[float]]:
            nonlocal done
            losses = []
            for step in range(done, done + size.steps):
                micro = micro_batches([order], examples, step, protocol=PROTOCOL, size=PROTOCOL.batch)
                losses.append(candidates.step(micro, objective="cross_entropy", blank=0, clip=PROTOCOL.clip)[0])
            done += size.steps
            return losses

        return steps

    alone, together = [run([lr]) for lr in RATES], run(RATES)
    separate = [list(at_step) for at_step in zip(*([loss for (loss,) in one()] for one in alone), strict=True)]
    torch.testing.assert_close(torch.tensor(together()), torch.tensor(separate), rtol=1e-3, atol=1e-5)  # and warm up
    taken = alternate(
        {"A": lambda: sum(seconds(one) for one in alone), "B": lambda: seconds(together)},
        size.rounds,
    )
    in_ms = {name: tuple(1000 * s / size.steps for s in values) for name, values in taken.items()}
    return Comparison(
        benchmark=f"together, {layers} x {width}",
        a="5 learning rates, one by one",
        b="5 learning rates together",
        unit="ms",
        a_values=in_ms["A"],
        b_values=in_ms["B"],
        note=f"a step of {PROTOCOL.batch} utterances, {CLASSES} classes",
    )


def compare_scores(size: Size) -> list[Comparison]:
    """Dev accuracy of each learning rate, one value per seed, of candidates fitted alone and together."""
    layers, width = size.fitted
    examples = Pooled(layers, width, size.recordings)
    held_out = tuple(range(0, size.recordings, 4))
    train = [i for i in range(size.recordings) if i % 4]
    lanes = [
        Lane(
            name=f"seed{seed}",
            order=_order(seed, train, examples),
            dev=held_out,
            evaluate=lambda said: statistics.fmean(said[i] == examples.targets[i] for i in held_out),
        )
        for seed in range(size.seeds)
    ]

    def scores(lanes: Sequence[Lane], lrs: Sequence[float]) -> dict[tuple[str, float], float]:
        trial = Trial(
            protocol=replace(PROTOCOL, steps=size.trained, eval_every=size.trained // 10, lr_grid=tuple(lrs)),
            blank=0,
            direction="max",
            device="cpu",
            threads=None,
            micro_batch=PROTOCOL.batch,
        )
        with tempfile.TemporaryDirectory() as folder:
            found = fit(lambda: _built(layers, width), examples, trial, lanes, folder=Path(folder), bar=Bar())
        return {name: fitted.dev for name, (fitted, _) in found.items()}

    together = scores(lanes, RATES)
    alone: dict[tuple[str, float], float] = {}
    for lane in lanes:
        for lr in RATES:
            alone |= scores([lane], [lr])
    return [_score(lr, lanes, alone, together) for lr in RATES]


def _score(
    lr: float, lanes: Sequence[Lane], alone: dict[tuple[str, float], float], together: dict[tuple[str, float], float]
) -> Comparison:
    a_values, b_values = (tuple(found[lane.name, lr] for lane in lanes) for found in (alone, together))
    difference = max(abs(b - a) for a, b in zip(a_values, b_values, strict=True))
    return Comparison(
        benchmark=f"together, float32, lr {lr:g}",
        a="dev scores, each alone",
        b="all together",
        unit="accuracy",
        a_values=a_values,
        b_values=b_values,
        note=f"largest difference {difference:.2g}, SD over {len(lanes)} seeds {statistics.stdev(a_values):.2g}",
    )


def _order(seed: int, recordings: Sequence[int], examples: Pooled) -> Order:
    pool = Pool(items=tuple((i,) for i in recordings), seconds=examples.lengths, targets=examples.targets)
    return Order(seed=seed, batches=sampler(PROTOCOL, pool, seed))


def _built(layers: int, width: int) -> Probe:
    return Probe(layers, LinearHead(width, CLASSES, projector=PROJECTOR))
