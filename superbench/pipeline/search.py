"""The learning-rate search: every candidate trained, the best one on dev chosen, mean over seeds, per partition.

Ties go to the smaller learning rate. The test set has no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from superbench.contracts import Candidate, Partition, Prediction
from superbench.errors import NumericalError
from superbench.features.examples import FeatureExamples
from superbench.features.weighted_sum import Probe
from superbench.labels import Labels
from superbench.plugin import TaskProtocol
from superbench.progress import Progress
from superbench.sampling import Batches
from superbench.training.batches import Order
from superbench.training.fitting import Fitted, Lane, Trial, cpu_threads, fit
from superbench.training.prediction import Said, predict

NOT_FINITE = 0.1  # of a candidate's steps: with more of them without a finite gradient it has failed


@dataclass(frozen=True, kw_only=True)
class Search:
    """What every candidate of one run shares."""

    protocol: TaskProtocol
    seeds: tuple[int, ...]
    partitions: tuple[Partition, ...]
    labels: Labels
    build: Callable[[], Probe]  # a fresh head with its weighted sum
    examples: FeatureExamples
    describe: Callable[[int, tuple[int, ...], str], Prediction]  # utterance, hypothesis, partition
    batches: Callable[[Partition, int], Batches]  # of a partition and a seed
    selection: Callable[[Partition], Sequence[int]]  # what of dev is scored, some of it more than once
    dev_score: Callable[[Sequence[Prediction]], float]  # the selection metric
    direction: str
    device: str
    threads: int | None
    micro_batch: int
    precision: str
    together: int  # lanes whose candidates train in one step, where their head can
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
    protocol = search.protocol
    trials = len(search.partitions) * len(search.seeds) * len(protocol.lr_grid)
    progress.say(f"{trials} candidates of {protocol.steps} steps, dev scored every {protocol.eval_every}")
    lanes = {(p.name, seed): _lane(search, p, seed) for p in search.partitions for seed in search.seeds}
    trained: dict[tuple[str, float], tuple[Fitted, Probe]] = {}
    with progress.stage("training", trials * protocol.steps) as bar:
        for group in _groups(list(lanes.values()), search.together):
            trained |= fit(search.build, search.examples, _trial(search), group, folder=search.folder, bar=bar)
    for partition in search.partitions:
        fitted = {
            (lr, seed): trained[lanes[partition.name, seed].name, lr][0]
            for seed in search.seeds
            for lr in protocol.lr_grid
        }
        failed = {lr for (lr, _), f in fitted.items() if f.nan_steps > NOT_FINITE * protocol.steps}
        best = _best_lr(fitted, failed, search, partition.name)
        if failed:
            progress.warn(
                f"training on {partition.name}: more than {NOT_FINITE:.0%} of the steps had no finite gradient with lr "
                f"{', '.join(f'{lr:g}' for lr in sorted(failed))}: not chosen"
            )
        candidates += [
            _candidate(f, partition.name, chosen=lr == best, failed=lr in failed) for (lr, _), f in fitted.items()
        ]
        chosen += [
            Chosen(
                partition=partition,
                fitted=fitted[best, seed],
                model=trained[lanes[partition.name, seed].name, best][1],
            )
            for seed in search.seeds
        ]
    return candidates, chosen


def _trial(search: Search) -> Trial:
    return Trial(
        protocol=search.protocol,
        blank=search.blank,
        direction=search.direction,
        device=search.device,
        threads=search.threads,
        micro_batch=search.micro_batch,
        precision=search.precision,
    )


def _lane(search: Search, partition: Partition, seed: int) -> Lane:
    selection = search.selection(partition)

    def evaluate(found: Said) -> float:
        return search.dev_score([search.describe(i, found[i], partition.name) for i in selection])

    return Lane(
        name=f"{partition.name}-seed{seed}",
        order=Order(seed=seed, batches=search.batches(partition, seed)),
        dev=tuple(sorted(set(selection))),
        evaluate=evaluate,
    )


def _groups(lanes: list[Lane], together: int) -> list[list[Lane]]:
    return [lanes[first : first + together] for first in range(0, len(lanes), together)]


def _best_lr(fitted: dict[tuple[float, int], Fitted], failed: set[float], search: Search, partition: str) -> float:
    """The best on dev of those that have not failed; raises where all have: they have found nothing."""
    if failed >= set(search.protocol.lr_grid):
        raise NumericalError(
            f"training on {partition}: more than {NOT_FINITE:.0%} of the gradients of every learning rate were NaN or "
            f"infinite ({', '.join(f'lr {f.lr:g}, seed {f.seed}: {f.nan_steps}' for f in fitted.values())} of "
            f"{search.protocol.steps} steps)",
            "check the features of this upstream for extreme values, and try smaller learning rates with --lr",
        )

    def mean_dev(lr: float) -> float:
        return sum(fitted[lr, seed].dev for seed in search.seeds) / len(search.seeds)

    sign = 1 if search.direction == "min" else -1
    return min((lr for lr in search.protocol.lr_grid if lr not in failed), key=lambda lr: (sign * mean_dev(lr), lr))


def _candidate(fitted: Fitted, partition: str, *, chosen: bool, failed: bool) -> Candidate:
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
        micro_batch=fitted.micro_batch,
        failed=failed,
    )
