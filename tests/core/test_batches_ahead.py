"""Batches are made ahead in order and never too far, and features are announced as far as there is room for them."""

from __future__ import annotations

import threading

import pytest
from small_fits import BATCHES, Fit, KilledError
from small_heads import KINDS, InMemory

from superbench.training.batches import ahead

WAIT = 60  # seconds after which a test has failed; none waits for so long


class Made:
    """Makes the name of a step, remembers which it made and who asked, and fails at one of them."""

    def __init__(self, steps=20, failing=None):
        self.steps, self.threads, self.failing = [], set(), failing
        self.done = [threading.Event() for _ in range(steps)]

    def __call__(self, step):
        self.threads.add(threading.current_thread().name)
        self.steps.append(step)
        self.done[step].set()
        if step == self.failing:
            raise ValueError(f"no step {step}")
        return f"step {step}"


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


@pytest.mark.parametrize("number", [0, 1, 2, 5, 30])
def test_every_step_in_order(number):
    made = Made()
    assert list(ahead(made, range(3, 20), number)) == [(step, f"step {step}") for step in range(3, 20)]
    assert made.steps == list(range(3, 20))
    assert readers() == []


@pytest.mark.parametrize("number", [1, 2, 5])
def test_another_thread_makes_as_many_as_it_may_and_no_more(number):
    made = Made()
    for step, _ in ahead(made, range(20), number):
        furthest = min(step + number, 19)
        assert made.done[furthest].wait(WAIT)
        assert made.steps == list(range(furthest + 1))
    assert len(made.threads) == 1
    assert threading.current_thread().name not in made.threads


def test_none_ahead_are_made_here_when_they_are_wanted():
    made = Made()
    for step, _ in ahead(made, range(20), 0):
        assert made.steps == list(range(step + 1))
    assert made.threads == {threading.current_thread().name}


def test_no_steps_are_none():
    assert list(ahead(Made(), range(0), 2)) == []


@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_what_goes_wrong_in_the_reader_surfaces_at_its_step(number):
    made = Made(failing=4)
    steps = ahead(made, range(20), number)
    for step in range(4):
        assert next(steps) == (step, f"step {step}")
    with pytest.raises(ValueError, match="no step 4"):
        next(steps)
    assert list(steps) == []
    assert readers() == []


@pytest.mark.parametrize("number", [0, 1, 5])
def test_no_thread_is_left_after_an_early_stop(number):
    made = Made()
    steps = ahead(made, range(20), number)
    assert next(steps) == (0, "step 0")
    assert len(readers()) == (number > 0)
    steps.close()
    assert readers() == []
    assert made.steps == list(range(len(made.steps)))
    assert len(made.steps) <= 1 + number


class Streaming(InMemory):
    """Has room for so many steps; remembers what it was told to expect, and what was asked of it."""

    def __init__(self, kind, room):
        super().__init__(kind)
        self.room, self.heard = room, []

    def expect(self, coming):
        steps = [tuple(indices) for indices in coming]
        self.heard.append(("coming", steps))
        return min(self.room, len(steps))

    def batch(self, indices):
        self.heard.append(("batch", tuple(sorted(indices))))
        return super().batch(indices)


@pytest.mark.parametrize("name", ["pooled", "pooled, 3 lanes", "blstm"])
@pytest.mark.parametrize("room", [1, 2, 3, 9])
def test_features_are_announced_up_to_the_evaluation_and_wanted_as_far_as_there_is_room(name, room, tmp_path):
    kind = KINDS[name]
    examples = Streaming(kind, room)
    fit = Fit(kind=kind, folder=tmp_path, examples=examples, micro_batch=8, protocol={"steps": 7, "eval_every": 3})
    streamed, _ = fit.run()
    orders = kind.orders(BATCHES)
    wanted = [tuple(i for order in orders for i in order.indices(step)) for step in range(7)]
    expected, step = [], 0
    for until in (3, 6, 7):
        while step < until:
            expected.append(("coming", wanted[step:until]))
            taken = min(room, until - step)
            expected += [("batch", tuple(sorted(indices))) for indices in wanted[step : step + taken]]
            step += taken
        expected += [("batch", (5, 6))] * kind.lanes  # dev
    assert examples.heard == expected
    (tmp_path / "there").mkdir()
    there = Fit(kind=kind, folder=tmp_path / "there", micro_batch=8, protocol=fit.protocol)
    found, _ = there.run()
    assert there.bytes() == fit.bytes()
    assert [fitted for fitted, _ in found.values()] == [fitted for fitted, _ in streamed.values()]


def test_after_a_stop_nothing_is_announced_that_is_done(tmp_path):
    kind = KINDS["pooled"]
    examples = Streaming(kind, 9)
    fit = Fit(kind=kind, folder=tmp_path, examples=examples, protocol={"steps": 7, "eval_every": 3})
    with pytest.raises(KilledError):
        fit.run(kill_after=2)  # in the second evaluation: the first is kept
    examples.heard.clear()
    fit.run()
    wanted = [tuple(kind.orders(BATCHES)[0].indices(step)) for step in range(7)]
    assert [steps for what, steps in examples.heard if what == "coming"] == [wanted[3:6], wanted[6:]]
