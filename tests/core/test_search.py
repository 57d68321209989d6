"""The learning rate is chosen on dev, by the mean over the seeds; ties go to the smaller one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from superbench.contracts import Partition, Prediction
from superbench.errors import NumericalError
from superbench.labels import ClassLabels
from superbench.pipeline import search as searching
from superbench.pipeline.search import Search
from superbench.plugin import TaskProtocol
from superbench.progress import Progress
from superbench.training import Fitted

PROTOCOL = TaskProtocol(
    head="any",
    objective="cross_entropy",
    metrics=("accuracy",),
    steps=10,
    batch=1,
    accumulate=1,
    eval_every=5,
    clip=1.0,
    lr_grid=(0.1, 0.01, 0.001),
)
FITTED = Fitted(lr=0, seed=0, dev=0, best_step=5, improved=True, train_loss=0.5, nan_steps=0, curve=())


@pytest.fixture
def run(monkeypatch):
    """Search where the candidates' dev scores are given: {(partition, lr, seed): dev}; NaN steps likewise.

    `heard` is called with every trial and its `evaluate`; dev is utterance 1 and, where it is resampled, others.
    """

    def search(devs, *, direction="max", nan_steps=None, heard=lambda trial, evaluate: None, selection=(1,)):
        partitions, _, seeds = ([*dict.fromkeys(key[i] for key in devs)] for i in range(3))

        def fit(build, examples, trial, *, evaluate, path, bar):
            partition = path.name.partition("-")[0]
            key = (partition, trial.lr, trial.seed)
            assert trial.batches(7) == [[partition, trial.seed, 7]]
            heard(trial, evaluate)
            fitted = replace(
                FITTED, lr=trial.lr, seed=trial.seed, dev=devs[key], nan_steps=(nan_steps or {}).get(key, 0)
            )
            return fitted, key

        monkeypatch.setattr(searching, "fit", fit)
        return searching.run_search(
            Search(
                protocol=replace(PROTOCOL, lr_grid=tuple(sorted({lr for _, lr, _ in devs}))),
                seeds=tuple(seeds),
                partitions=tuple(Partition(name=p, train=(0,), dev=(1,), test=(2,)) for p in partitions),
                labels=ClassLabels(("a", "b")),
                build=None,
                examples=None,
                describe=lambda i, said, partition: Prediction(
                    id=f"{partition} {i}", reference="", hypothesis=str(said)
                ),
                batches=lambda partition, seed: lambda step: [[partition.name, seed, step]],
                selection=lambda partition: list(selection),
                dev_score=lambda predictions: [(p.id, p.hypothesis) for p in predictions],
                direction=direction,
                device="cpu",
                threads=1,
                micro_batch=1,
                folder=Path("nowhere"),
            ),
            Progress(),
        )

    return search


def chosen(found):
    candidates, heads = found
    assert [(h.partition.name, h.fitted.lr, h.fitted.seed) for h in heads] == [h.model for h in heads]
    marked = {(c.partition, c.lr, c.seed) for c in candidates if c.chosen}
    assert marked == {h.model for h in heads}
    return sorted({(partition, lr) for partition, lr, _ in marked})


def test_the_best_mean_over_seeds_wins_not_the_best_seed(run):
    devs = {("all", 0.1, 0): 0.9, ("all", 0.1, 1): 0.1, ("all", 0.01, 0): 0.6, ("all", 0.01, 1): 0.5}
    found = run(devs)
    assert chosen(found) == [("all", 0.01)]
    assert len(found[0]) == 4
    assert [h.fitted.seed for h in found[1]] == [0, 1]


def test_the_direction_of_the_metric_counts(run):
    devs = {("all", 0.1, 0): 0.9, ("all", 0.01, 0): 0.6, ("all", 0.001, 0): 0.7}
    assert chosen(run(devs, direction="max")) == [("all", 0.1)]
    assert chosen(run(devs, direction="min")) == [("all", 0.01)]


@pytest.mark.parametrize("direction", ["min", "max"])
def test_ties_go_to_the_smaller_learning_rate(direction, run):
    devs = {("all", lr, seed): 0.5 for lr in (0.1, 0.01, 0.001) for seed in (0, 1)}
    assert chosen(run(devs, direction=direction)) == [("all", 0.001)]


def test_every_partition_chooses_its_own(run):
    devs = {("fold1", 0.1, 0): 0.9, ("fold1", 0.01, 0): 0.1, ("fold2", 0.1, 0): 0.1, ("fold2", 0.01, 0): 0.9}
    assert chosen(run(devs)) == [("fold1", 0.1), ("fold2", 0.01)]


def test_dev_is_predicted_once_and_counted_as_often_as_it_was_drawn(run):
    trials = []
    devs = {(p, lr, 0): 0.5 for p in ("fold1", "fold2") for lr in (0.1, 0.01)}
    run(devs, selection=(5, 3, 5, 5), heard=lambda *given: trials.append(given))
    assert len(trials) == 4
    for (trial, evaluate), partition in zip(trials, ("fold1", "fold1", "fold2", "fold2"), strict=True):
        assert trial.dev == (3, 5)
        drawn = [(f"{partition} {i}", str((i,))) for i in (5, 3, 5, 5)]
        assert evaluate({3: (3,), 5: (5,)}) == drawn


def test_a_search_without_one_finite_gradient_has_found_nothing(run):
    devs = {("all", 0.1, 0): 0.5, ("all", 0.01, 0): 0.5}
    with pytest.raises(NumericalError, match="every gradient"):
        run(devs, nan_steps=dict.fromkeys(devs, 10))
    candidates, _ = run(devs, nan_steps={("all", 0.1, 0): 10, ("all", 0.01, 0): 9})
    assert [c.nan_steps for c in candidates] == [9, 10]
