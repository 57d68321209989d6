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
from superbench.training.fitting import Fitted

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

    `heard` is called with every lane; dev is utterance 1 and, where it is resampled, others.
    """

    def search(devs, *, direction="max", nan_steps=None, heard=lambda lane: None, selection=(1,), together=1):
        partitions, _, seeds = ([*dict.fromkeys(key[i] for key in devs)] for i in range(3))

        def fit(build, examples, trial, lanes, *, folder, bar):
            assert len(lanes) <= together
            found = {}
            for lane in lanes:
                partition, seed = lane.name.partition("-")[0], lane.order.seed
                assert lane.order.batches(7) == [[partition, seed, 7]]
                heard(lane)
                for lr in trial.protocol.lr_grid:
                    key = (partition, lr, seed)
                    nan = (nan_steps or {}).get(key, 0)
                    found[lane.name, lr] = replace(FITTED, lr=lr, seed=seed, dev=devs[key], nan_steps=nan), key
            return found

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
                precision="float32",
                together=together,
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


@pytest.mark.parametrize("together", [1, 2, 3, 9])
def test_how_many_lanes_train_together_changes_no_choice(together, run):
    devs = {(p, lr, s): 0.5 + lr * (s - 1) for p in ("fold1", "fold2") for lr in (0.1, 0.01) for s in (0, 1, 2)}
    heard = []
    assert chosen(run(devs, together=together, heard=heard.append)) == [("fold1", 0.01), ("fold2", 0.01)]
    assert [lane.name for lane in heard] == [f"{p}-seed{s}" for p in ("fold1", "fold2") for s in (0, 1, 2)]


def test_dev_is_predicted_once_and_counted_as_often_as_it_was_drawn(run):
    lanes = []
    devs = {(p, lr, 0): 0.5 for p in ("fold1", "fold2") for lr in (0.1, 0.01)}
    run(devs, selection=(5, 3, 5, 5), heard=lanes.append)
    assert len(lanes) == 2
    for lane, partition in zip(lanes, ("fold1", "fold2"), strict=True):
        assert lane.dev == (3, 5)
        drawn = [(f"{partition} {i}", str((i,))) for i in (5, 3, 5, 5)]
        assert lane.evaluate({3: (3,), 5: (5,)}) == drawn


def test_a_candidate_with_too_many_gradients_that_are_not_finite_is_not_chosen_and_said(run):
    devs = {("all", 0.1, 0): 0.9, ("all", 0.01, 0): 0.5, ("all", 0.1, 1): 0.9, ("all", 0.01, 1): 0.5}
    found = run(devs, nan_steps={("all", 0.1, 1): 2})  # of 10 steps: more than a tenth
    assert chosen(found) == [("all", 0.01)]
    assert {(c.lr, c.seed): c.failed for c in found[0]} == {
        (0.1, 0): True,
        (0.1, 1): True,
        (0.01, 0): False,
        (0.01, 1): False,
    }
    assert chosen(run(devs, nan_steps={("all", 0.1, 1): 1})) == [("all", 0.1)]  # a tenth is tolerated


def test_a_search_in_which_every_learning_rate_failed_has_found_nothing(run):
    devs = {("all", 0.1, 0): 0.5, ("all", 0.01, 0): 0.5}
    with pytest.raises(NumericalError, match=r"every learning rate.*lr 0.01, seed 0: 2, .*of 10 steps") as failure:
        run(devs, nan_steps=dict.fromkeys(devs, 2))
    assert failure.value.exit_code == 8
    candidates, _ = run(devs, nan_steps={("all", 0.1, 0): 10, ("all", 0.01, 0): 1})
    assert [c.nan_steps for c in candidates] == [1, 10]
