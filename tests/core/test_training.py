"""Stage 3: what counts in a step, the choice of the best one, gradients that are not finite, going on after a stop."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from superbench.plugin import TaskProtocol
from superbench.progress import Bar
from superbench.sampling import Pool, derived_seed, sampler
from superbench.training import prediction
from superbench.training.batches import MicroBatch, Order, micro_batches
from superbench.training.candidates import Candidates
from superbench.training.fitting import Lane, Trial, fit
from superbench.training.objectives import Targets
from superbench.training.prediction import log_probabilities, predict, predict_all

PROTOCOL = TaskProtocol(
    head="any",
    objective="cross_entropy",
    metrics=("accuracy",),
    steps=10,
    batch=4,
    accumulate=1,
    eval_every=2,
    clip=1.0,
    lr_grid=(0.1,),
)


class InMemory:
    """What all examples here have in common: they are there, and read one after the other."""

    reads_ahead = False

    def expect(self, coming):
        return 0


class Examples(InMemory):
    """Eight utterances of two classes, apart in their first feature."""

    lengths = (1,) * 8
    targets = tuple((i % 2,) for i in range(8))

    def __init__(self, scale=1.0):
        noise = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
        noise[:, 0] += torch.tensor([-3.0, 3.0] * 4)
        self.x = noise * scale

    def batch(self, indices):
        return self.x[list(indices)], None


class Head(nn.Linear):
    def forward(self, x, lengths=None):
        return super().forward(x)


class KilledError(Exception):
    pass


POOL = Pool(items=tuple((i,) for i in range(6)), seconds=(1.0,) * 8, targets=Examples.targets)


def fitted_all(folder, scores=None, *, examples=None, stop_after=None, seed=0, protocol=PROTOCOL, direction="max"):
    """Train with dev scores given one after the other; `stop_after` so many evaluations the process dies."""
    given = iter(scores) if scores else None
    done = 0

    def evaluate(found):
        nonlocal done
        if done == stop_after:
            raise KilledError
        done += 1
        return next(given) if given else sum(found[i] == Examples.targets[i] for i in found) / len(found)

    trial = Trial(protocol=protocol, blank=0, direction=direction, device="cpu", threads=1, micro_batch=4)
    order = Order(seed=seed, batches=sampler(protocol, POOL, seed))
    lane = Lane(name=f"seed{seed}", order=order, dev=(6, 7), evaluate=evaluate)
    return fit(lambda: Head(3, 2), examples or Examples(), trial, [lane], folder=folder, bar=Bar())


def fitted(folder, scores=None, **changes):
    """The one candidate of a search over one learning rate."""
    (found,) = fitted_all(folder, scores, **changes).values()
    return found


def kept(folder):
    """The one file in which candidates are kept."""
    (path,) = folder.glob("*.checkpoint")
    return path


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_seeds_are_apart_and_stay_what_they_were():
    assert derived_seed(0, "init") == 1749912909633406932
    found = {derived_seed(s, "step", t) for s in range(20) for t in range(50)}
    assert len(found) == 1000
    assert all(0 <= seed < 2**63 for seed in found)


class Weights(nn.Module):
    """One weight per utterance, whose gradient says what the utterance counts in a step; x_B1 is its index."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(8, 2, dtype=torch.float64))
        self.parts = []

    def forward(self, x, lengths=None):
        self.parts.append(x[:, 0].long().tolist())
        return self.weights[x[:, 0].long()]


class Indices(InMemory):
    lengths = (5, 3, 9, 1, 7, 2, 8, 4)
    targets = ((0,),) * 8

    def batch(self, indices):
        return torch.tensor([[float(i)] for i in indices], dtype=torch.float64), None


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 8])
@pytest.mark.parametrize(
    ("batches", "shares"),
    [
        ([[0, 1, 2, 3, 4]], dict.fromkeys(range(5), 1 / 5)),
        ([[0, 1], [2, 3], [4, 5]], dict.fromkeys(range(6), 1 / 6)),
        ([[0, 1, 2, 3], [4]], {**dict.fromkeys(range(4), 1 / 8), 4: 1 / 2}),  # batches count alike, however short
        ([[0, 1, 0]], {0: 2 / 3, 1: 1 / 3}),  # drawn twice
    ],
    ids=["one", "of one length", "one halved", "with replacement"],
)
def test_every_batch_of_a_step_counts_the_same_and_in_it_every_utterance(batches, shares, micro_batch):
    model, order = Weights(), Order(seed=0, batches=lambda step: [list(batch) for batch in batches])
    micro = micro_batches([order], Indices(), 3, protocol=PROTOCOL, size=micro_batch)
    assert [len(m.targets) for m in micro] == [len(m.shares) for m in micro] == [len(m.x) for m in micro]
    assert all(1 <= len(m.targets) <= micro_batch for m in micro)
    assert sum(float(m.shares.sum()) for m in micro) == pytest.approx(1, abs=1e-12)
    assert [m.place for m in micro] == [(0, 3, first) for first in range(0, len(order.indices(3)), micro_batch)]
    candidates = Candidates([model], [1.0], precision="float64")
    losses, _ = candidates.step(micro, objective="cross_entropy", blank=0, clip=1e9)
    assert losses == [pytest.approx(math.log(2), abs=1e-12)]  # of the step: weighted, and they sum to 1
    assert model.parts == [m.x[:, 0].long().tolist() for m in micro]
    assert sorted(i for part in model.parts for i in part) == sorted(i for batch in batches for i in batch)
    counted = model.weights.grad[:, 1] * 2  # softmax of (0, 0) on a target of class 0
    assert {i: pytest.approx(c, abs=1e-12) for i, c in enumerate(counted.tolist()) if c} == shares


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ([[0, 1, 2], [3, 4, 5]], [[3, 5, 1], [0, 4, 2]]),  # 1, 2, 3 and 5, 7, 9 frames
        ([[0, 1, 2, 6], [3]], [[3, 1, 0], [6, 2]]),  # 1, 3, 5 and 8, 9 frames, with a batch that is short
    ],
    ids=["of one length", "one short"],
)
def test_a_step_is_cut_by_frames(batches, expected):
    order = Order(seed=0, batches=lambda step: [list(batch) for batch in batches])
    parts = micro_batches([order], Indices(), 0, protocol=PROTOCOL, size=3)
    assert [m.x[:, 0].long().tolist() for m in parts] == expected


def test_a_head_without_augmentation_is_called_as_ever():
    heard = []

    class Listening(nn.Linear):
        def forward(self, x, lengths=None, *more):
            heard.append((lengths, more))
            return super().forward(x)

    def augment(x, lengths):
        return x

    model, x = Listening(3, 2), torch.zeros(2, 3)
    candidates = Candidates([model], [1.0], precision="float32")
    targets, shares = Targets.of([(0,), (1,)]), torch.tensor([0.5, 0.5])
    for given in (None, augment):
        micro = MicroBatch(x=x, lengths=None, targets=targets, shares=shares, augment=given)
        candidates.step([micro], objective="cross_entropy", blank=0, clip=1.0)
    assert heard == [(None, ()), (None, (augment,))]


@pytest.mark.parametrize(
    ("direction", "must_beat", "scores", "best_step", "dev", "improved"),
    [
        ("max", 0.0, [0.2, 0.7, 0.7, 0.6, 0.7], 4, 0.7, True),
        ("min", 1.0, [0.9, 0.4, 0.5, 0.4, 0.4], 4, 0.4, True),
        ("max", 0.0, [0.0, 0.0, 0.0, 0.0, 0.0], 10, 0.0, False),
        ("min", 1.0, [1.0, 1.3, 1.0, 2.0, 1.1], 10, 1.1, False),
        ("min", 1.0, [1.5, 1.2, 0.99, 1.2, 1.2], 6, 0.99, True),
        ("min", None, [1.5, 1.2, 1.3, 1.2, 1.4], 4, 1.2, True),
        ("max", None, [0.0, 0.0, 0.0, 0.0, 0.0], 2, 0.0, True),
    ],
    ids=[
        "first best of a maximum",
        "first best of a minimum",
        "never above 0",
        "never below 1",
        "late",
        "above 1, with nothing to beat",
        "at 0, with nothing to beat",
    ],
)
def test_the_first_best_step_stays_and_the_last_where_none_was_better(
    direction, must_beat, scores, best_step, dev, improved, tmp_path
):
    protocol = replace(PROTOCOL, must_beat=must_beat)
    found, model = fitted(tmp_path, scores, direction=direction, protocol=protocol)
    assert (found.best_step, found.dev, found.improved) == (best_step, dev, improved)
    assert found.curve == tuple(zip((2, 4, 6, 8, 10), scores, strict=True))
    (tmp_path / "shorter").mkdir()
    shorter = replace(protocol, steps=best_step)
    _, at_that_step = fitted(tmp_path / "shorter", scores, direction=direction, protocol=shorter)
    assert same(model, at_that_step)


@pytest.mark.parametrize("grid", [(0.1,), (0.1, 0.001, 3.0)], ids=["one", "three"])
@pytest.mark.parametrize("stop_after", [0, 1, 3, 4])
def test_stopped_and_resumed_equals_uninterrupted(stop_after, grid, tmp_path):
    protocol = replace(PROTOCOL, lr_grid=grid)
    folders = [tmp_path / name for name in ("whole", "stopped")]
    for folder in folders:
        folder.mkdir()
    whole = fitted_all(folders[0], protocol=protocol)
    with pytest.raises(KilledError):
        fitted_all(folders[1], protocol=protocol, stop_after=stop_after * len(grid))
    torch.manual_seed(12345)
    resumed = fitted_all(folders[1], protocol=protocol)
    read_back = fitted_all(folders[1], protocol=protocol, stop_after=0)  # finished: nothing is evaluated any more
    assert list(whole) == [("seed0", lr) for lr in grid]
    for key, (found, model) in whole.items():
        for again, once_more in (resumed[key], read_back[key]):
            assert again == found
            assert same(model, once_more)
    assert kept(folders[0]).name == kept(folders[1]).name
    assert kept(folders[0]).read_bytes() == kept(folders[1]).read_bytes()


def test_the_random_state_of_the_caller_is_left_alone(tmp_path):
    before = torch.get_rng_state()
    fitted(tmp_path)
    assert torch.equal(before, torch.get_rng_state())


def test_gradients_that_are_not_finite_are_counted_and_not_applied(tmp_path):
    examples = Examples(scale=math.inf)
    found, model = fitted(tmp_path, examples=examples)
    assert found.nan_steps == PROTOCOL.steps
    torch.manual_seed(derived_seed(0, "init"))
    assert same(model, Head(3, 2))


def test_all_learning_rates_of_a_seed_see_the_same_batches_read_once(tmp_path):
    class Watched(Examples):
        def __init__(self):
            super().__init__()
            self.seen = []

        def batch(self, indices):
            self.seen.append(tuple(indices))
            return super().batch(indices)

    seen = []
    for number, (grid, seed) in enumerate([((0.1,), 0), ((0.001,), 0), ((0.1,), 1), ((0.1, 0.001), 0)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        examples = Watched()
        fitted_all(folder, examples=examples, protocol=replace(PROTOCOL, lr_grid=grid), seed=seed)
        seen.append(examples.seen)
    assert len(seen[0]) == 10 + 5  # steps and evaluations
    assert seen[0] == seen[1] == seen[3] != seen[2]


@pytest.mark.parametrize(
    "damaged",
    [
        lambda whole: whole[:50],
        lambda whole: whole[:-1],
        lambda whole: whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:],
        lambda whole: b"",
    ],
    ids=["cut in its first line", "one byte short", "one bit", "empty"],
)
def test_a_damaged_state_is_put_aside_and_trained_again(damaged, tmp_path):
    before, model = fitted(tmp_path)
    path = kept(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(damaged(whole))
    again, same_model = fitted(tmp_path)
    assert again == before
    assert same(model, same_model)
    (aside,) = tmp_path.glob("*.corrupt-*")
    assert aside.stem == path.stem
    assert aside.read_bytes() == damaged(whole)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("through", ["predict", "predict_all"])
def test_greedy_ctc_merges_repeats_drops_blanks_and_reads_no_padding(through, monkeypatch):
    monkeypatch.setattr(prediction, "EVALUATED", 2)
    best = {0: [1, 1, 0, 1, 2, 2], 1: [0, 0, 3, 3, 9, 9], 2: [0, 0, 0, 0, 0, 0]}

    class Spoken(InMemory):
        lengths = (6, 4, 6)
        targets = ((), (), ())

        def batch(self, indices):
            x = nn.functional.one_hot(torch.tensor([best[i] for i in indices]), 10).float()
            return x, torch.tensor([self.lengths[i] for i in indices])

    class Echo(nn.Module):
        def __init__(self):
            super().__init__()
            self.nothing = nn.Parameter(torch.zeros(()))

        def forward(self, x, lengths):
            assert not self.training
            return x

    expected = {0: (1, 1, 2), 1: (3,), 2: ()}
    if through == "predict":
        assert predict(Echo(), Spoken(), (0, 1, 2), objective="ctc", blank=0) == expected
    else:
        two = Candidates([Echo(), Echo()], [0.1, 0.2], precision="float32")
        assert predict_all(two, 0, Spoken(), (0, 1, 2), objective="ctc", blank=0) == [expected, expected]


def test_log_probabilities_are_those_of_one_utterance_alone_without_padding():
    class Spoken(InMemory):
        lengths = (3, 2)
        targets = ((), ())

        def batch(self, indices):
            assert list(indices) == [1]
            return torch.tensor([[[1.0, 2.0], [0.0, 0.0], [9.0, 9.0]]], dtype=torch.float64), torch.tensor([2])

    class Echo(nn.Module):
        def forward(self, x, lengths):
            assert not self.training
            return x

    found = log_probabilities(Echo(), Spoken(), 1)
    assert (found.dtype, found.requires_grad) == (torch.float32, False)
    below = math.log(1 + math.e)
    torch.testing.assert_close(found, torch.tensor([[-below, 1 - below], [-math.log(2)] * 2]))
