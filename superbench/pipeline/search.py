"""The learning-rate search: every candidate trained, the best one on dev chosen, mean over seeds, per partition.

Ties go to the smaller learning rate. The test set has no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from superbench.contracts import Candidate, Partition, Prediction
from superbench.errors import NumericalError
from superbench.features.examples import StoredExamples
from superbench.features.weighted_sum import Probe
from superbench.labels import Labels
from superbench.plugin import TaskProtocol
from superbench.progress import Progress
from superbench.sampling import Batches
from superbench.training import Fitted, Trial, cpu_threads, fit, predict


@dataclass(frozen=True, kw_only=True)
class Search:
    """What every candidate of one run shares."""

    protocol: TaskProtocol
    seeds: tuple[int, ...]
    partitions: tuple[Partition, ...]
    labels: Labels
    build: Callable[[], Probe]  # a fresh head with its weighted sum
    examples: StoredExamples
    describe: Callable[[int, tuple[int, ...], str], Prediction]  # utterance, hypothesis, partition
    batches: Callable[[Partition, int], Batches]  # of a partition and a seed
    selection: Callable[[Partition], Sequence[int]]  # what of dev is scored, some of it more than once
    dev_score: Callable[[Sequence[Prediction]], float]  # the selection metric
    direction: str
    device: str
    threads: int | None
    micro_batch: int
    folder: Path  # where candidates keep their state

    @property
    def blank(self) -> int:
        return getattr(self.labels, "blank", 0)

    def predictions(self, model: Probe, indices: Sequence[int], partition: str) -> list[Prediction]:
        """What a trained head says of some utterances."""
        with cpu_threads(self.threads):
            found = predict(model, self.examples, indices, objective=self.protocol.objective, blank=self.blank)
        return [self.describe(i, found[i], partition) for i in indices]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The head chosen for one partition and seed."""

    partition: Partition
    fitted: Fitted
    model: Probe


def run_search(search: Search, progress: Progress) -> tuple[list[Candidate], list[Chosen]]:
    """Train all candidates (those done before are read back) and choose one learning rate per partition."""
    candidates: list[Candidate] = []
    chosen: list[Chosen] = []
    trials = len(search.partitions) * len(search.seeds) * len(search.protocol.lr_grid)
    progress.say(f"{trials} candidates of {search.protocol.steps} steps, dev scored every {search.protocol.eval_every}")
    with progress.stage("training", trials * search.protocol.steps) as bar:
        for partition in search.partitions:
            trained: dict[tuple[float, int], tuple[Fitted, Probe]] = {}
            selection = search.selection(partition)
            for seed in search.seeds:
                batches = search.batches(partition, seed)
                for lr in search.protocol.lr_grid:
                    trial = Trial(
                        protocol=search.protocol,
                        lr=lr,
                        seed=seed,
                        blank=search.blank,
                        direction=search.direction,
                        device=search.device,
                        threads=search.threads,
                        micro_batch=search.micro_batch,
                        batches=batches,
                        dev=tuple(sorted(set(selection))),
                    )

                    def evaluate(
                        found: dict[int, tuple[int, ...]],
                        selection: Sequence[int] = selection,
                        partition: Partition = partition,
                    ) -> float:
                        return search.dev_score([search.describe(i, found[i], partition.name) for i in selection])

                    path = search.folder / f"{partition.name}-seed{seed}-lr{lr!r}.pt"
                    trained[lr, seed] = fit(search.build, search.examples, trial, evaluate=evaluate, path=path, bar=bar)
            _refuse_nan([f for f, _ in trained.values()], search.protocol, partition.name)
            best = _best_lr({k: f for k, (f, _) in trained.items()}, search)
            candidates += [_candidate(f, partition.name, lr == best) for (lr, _), (f, _) in trained.items()]
            chosen += [
                Chosen(partition=partition, fitted=trained[best, seed][0], model=trained[best, seed][1])
                for seed in search.seeds
            ]
    return candidates, chosen


def _best_lr(fitted: dict[tuple[float, int], Fitted], search: Search) -> float:
    def mean_dev(lr: float) -> float:
        return sum(fitted[lr, seed].dev for seed in search.seeds) / len(search.seeds)

    sign = 1 if search.direction == "min" else -1
    return min(search.protocol.lr_grid, key=lambda lr: (sign * mean_dev(lr), lr))


def _refuse_nan(fitted: Sequence[Fitted], protocol: TaskProtocol, partition: str) -> None:
    """A search in which no candidate took a single step with a finite gradient has found nothing."""
    if all(f.nan_steps == protocol.steps for f in fitted):
        raise NumericalError(
            f"training on {partition}: every gradient of every learning rate was NaN or infinite",
            "check the features of this upstream for extreme values, and try smaller learning rates with --lr",
        )


def _candidate(fitted: Fitted, partition: str, chosen: bool) -> Candidate:
    return Candidate(
        partition=partition,
        seed=fitted.seed,
        lr=fitted.lr,
        dev=fitted.dev,
        best_step=fitted.best_step,
        improved=fitted.improved,
        train_loss=fitted.train_loss,
        chosen=chosen,
        nan_steps=fitted.nan_steps,
        curve=fitted.curve,
    )
