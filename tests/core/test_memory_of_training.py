"""Memory runs out in training: fewer utterances at a time give the same gradients, down to one; nothing is dropped."""

from __future__ import annotations

import threading

import pytest
import torch
from small_fits import Fit, KilledError, facts
from small_heads import CLASSES, DROPOUT, HIDDEN, KINDS, LAYERS, WIDTH, InMemory, Stepped, assert_same_steps

from superbench.errors import ResourceError
from superbench.features.weighted_sum import Probe
from superbench.training import fitting
from superbench.training.batches import AHEAD
from superbench.training.candidates import Candidates
from superbench_downstreams.blstm import BlstmHead
from superbench_downstreams.linear import LinearHead

ERRORS = {
    "gpu": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "pinned": lambda: RuntimeError("CUDA error: out of memory"),
    "cuBLAS": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "cpu": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    ),
    "python": MemoryError,
}
HALVED = [
    "memory ran out on 8 utterances at a time: 4 at a time from here on, still 8 per step",
    "memory ran out on 4 utterances at a time: 2 at a time from here on, still 8 per step",
]


@pytest.fixture(params=ERRORS)
def error(request):
    return ERRORS[request.param]


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def build_hungry(kind, error, most, *, in_training=True):
    """A head that fails, in training or else, on more utterances than `most`; on more than 7 padded frames for each.

    The short utterances come first, and fit: when it fails, some of the gradient is there.
    """

    def check(head, utterances, frames):
        if head.training == in_training and utterances * frames > most * (1 if kind.pooled else 7):
            raise error()

    class HungryLinear(LinearHead):
        def together(self, parameters, x, lengths=None):
            check(self, x.shape[1], 1 if lengths is None else x.shape[2])
            return super().together(parameters, x, lengths)

    class HungryBlstm(BlstmHead):
        def forward(self, x, lengths):
            check(self, *x.shape[:2])
            return super().forward(x, lengths)

    def build():
        if kind.head == "blstm":
            head = HungryBlstm(WIDTH, CLASSES, projector=4, hidden=HIDDEN, layers=2, dropout=DROPOUT)
        else:
            head = HungryLinear(WIDTH, CLASSES, projector=4)
        return Probe(LAYERS, head)

    return build


class HungryReading(InMemory):
    """Features that cannot be read for more than so many utterances at a time.

    The thread that reads ahead has failed at two steps before the one that trains reads anything itself.
    """

    def __init__(self, kind, error, most, *, reads_ahead):
        super().__init__(kind)
        self.error, self.most, self.reads_ahead = error, most * kind.lanes, reads_ahead
        self.failed, self.far_ahead = 0, threading.Event()

    def batch(self, indices):
        reading_ahead = threading.current_thread() in readers()
        if self.reads_ahead and not reading_ahead:
            assert self.far_ahead.wait(60)
        if len(indices) <= self.most:
            return super().batch(indices)
        self.failed += reading_ahead
        if self.failed == AHEAD:
            self.far_ahead.set()
        raise self.error()


def hungry(kind, where, error, most):
    """A head, or features, for `Fit`."""
    ahead = where.endswith("reading ahead")
    if where.startswith("reading"):
        return {"examples": HungryReading(kind, error, most, reads_ahead=ahead)}
    examples = InMemory(kind)
    examples.reads_ahead = ahead
    return {"examples": examples, "build": build_hungry(kind, error, most)}


@pytest.fixture
def steps(monkeypatch):
    """What every step of every candidate was."""
    found = []

    class Recorded(Candidates):
        def step(self, *arguments, **options):
            told = super().step(*arguments, **options)
            found.extend(Stepped.of(*one) for one in zip(self.models, *told, strict=True))
            return told

    monkeypatch.setattr(fitting, "Candidates", Recorded)
    return found


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


def test_fewer_at_a_time_and_the_same_gradients(kind, error, steps, tmp_path):
    plenty, _ = Fit(kind=kind, folder=tmp_path / "plenty", micro_batch=8).run()
    expected = list(steps)
    steps.clear()
    found, bar = Fit(
        kind=kind, folder=tmp_path / "little", micro_batch=8, build=build_hungry(kind, error, most=2)
    ).run()
    assert bar.warnings == HALVED
    assert_same_steps(steps, expected)
    assert {fitted.micro_batch for fitted, _ in plenty.values()} == {8}
    assert {fitted.micro_batch for fitted, _ in found.values()} == {2}
    assert [fitted.curve for fitted, _ in found.values()] == [fitted.curve for fitted, _ in plenty.values()]


@pytest.mark.parametrize("reads_ahead", [False, True])
def test_memory_runs_out_where_features_are_read(kind, reads_ahead, steps, tmp_path):
    Fit(kind=kind, folder=tmp_path / "plenty", micro_batch=8).run()
    expected = list(steps)
    steps.clear()
    examples = HungryReading(kind, ERRORS["cpu"], 2, reads_ahead=reads_ahead)
    found, bar = Fit(kind=kind, folder=tmp_path / "little", micro_batch=8, examples=examples).run()
    assert bar.warnings == HALVED
    assert_same_steps(steps, expected)
    assert {fitted.micro_batch for fitted, _ in found.values()} == {2}


@pytest.mark.parametrize("name", ["pooled, 3 lanes", "blstm"])
def test_it_stays_fewer_after_a_stop_and_the_bytes_are_the_same(name, tmp_path):
    kind = KINDS[name]
    common = {"kind": kind, "micro_batch": 8, "build": build_hungry(kind, ERRORS["cpu"], most=2)}
    whole = Fit(folder=tmp_path / "whole", **common)
    candidates = len(whole.run()[0])
    for killed in range(0, 3 * candidates, candidates):
        stopped = Fit(folder=tmp_path / str(killed), **common)
        with pytest.raises(KilledError):
            stopped.run(kill_after=killed)
        found, bar = stopped.run()
        assert bar.warnings == (HALVED if killed == 0 else [])
        assert {fitted.micro_batch for fitted, _ in found.values()} == {2}
        assert stopped.bytes() == whole.bytes()


@pytest.mark.parametrize("where", ["in training", "in training, reading ahead", "reading", "reading ahead"])
def test_where_one_utterance_is_too_much_it_says_what_to_do(kind, where, tmp_path):
    fit = Fit(kind=kind, folder=tmp_path, micro_batch=2, **hungry(kind, where, ERRORS["gpu"], most=0))
    with pytest.raises(ResourceError) as raised:
        fit.run()
    assert raised.value.message == (
        "training: memory ran out on one utterance at a time; nothing was dropped, and no row is stored"
    )
    assert "--head" in raised.value.hint
    assert "the same command goes on from the last evaluation" in raised.value.hint
    assert list(tmp_path.iterdir()) == []
    assert readers() == []


@pytest.mark.parametrize("where", ["in training", "in training, reading ahead", "reading", "reading ahead"])
def test_any_other_error_surfaces_untouched(kind, where, tmp_path):
    wrong = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError) as raised:
        Fit(kind=kind, folder=tmp_path, micro_batch=8, **hungry(kind, where, lambda: wrong, most=2)).run()
    assert raised.value is wrong
    assert readers() == []


def test_fewer_are_predicted_at_a_time_and_said_is_the_same(kind, error, tmp_path):
    plenty = Fit(kind=kind, folder=tmp_path / "plenty")
    expected = facts(plenty.run()[0])
    build = build_hungry(kind, error, most=1, in_training=False)
    little = Fit(kind=kind, folder=tmp_path / "little", build=build)
    found, _ = little.run()
    assert little.said == plenty.said
    assert facts(found) == expected


def test_where_one_utterance_is_too_much_to_be_predicted_it_says_so(kind, tmp_path):
    build = build_hungry(kind, ERRORS["cpu"], most=0, in_training=False)
    with pytest.raises(ResourceError, match=r"^training: memory ran out on the prediction of dev"):
        Fit(kind=kind, folder=tmp_path, build=build).run()
    assert list(tmp_path.iterdir()) == []


def test_where_the_coming_steps_cannot_be_fetched_it_says_so(error, tmp_path):
    class Unexpected(InMemory):
        def expect(self, coming):
            raise error()

    kind = KINDS["pooled"]
    with pytest.raises(ResourceError, match=r"^training: memory ran out on the features of the coming steps"):
        Fit(kind=kind, folder=tmp_path, examples=Unexpected(kind)).run()


def test_memory_that_runs_out_within_the_update_is_never_tried_again(monkeypatch, tmp_path):
    """Adam may have moved some candidates by then: done again, they would be moved twice."""
    calls = []

    def full(self, norms):
        calls.append(norms)
        raise torch.OutOfMemoryError("2 GiB")

    monkeypatch.setattr(Candidates, "update", full)
    with pytest.raises(ResourceError, match=r"^training: memory ran out on the optimiser's first step"):
        Fit(kind=KINDS["blstm"], folder=tmp_path).run()
    assert len(calls) == 1
