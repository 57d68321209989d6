"""Features by index: the same batches wherever they come from, fetched once per window, and never too many held."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest
import torch

from superbench.features.examples import LOOKED_AT, FeatureExamples, Window, window
from superbench.features.reduction import Form
from superbench.training.batches import Order, micro_batches

POOLED, FRAMES = Form(name="pooled"), Form(name="frames")
LAYERS, WIDTH = 3, 4
LENGTHS = (5, 2, 7, 3, 7, 4)  # frames
PROTOCOL = SimpleNamespace(augment=None)  # all that micro-batches ask of one here


def features_of(content, frames):
    """[L, T, D], or [L, D] where `frames` is None: numbers that follow from the content."""
    drawn = torch.Generator().manual_seed(int(hashlib.sha256(content.encode()).hexdigest()[:8], 16))
    return torch.randn([LAYERS, *([] if frames is None else [frames]), WIDTH], generator=drawn)


class Source:
    """Gives what a store or an upstream would, and notes what it was asked for."""

    def __init__(self, frames, *, quick, apart=False):
        self.frames, self.quick, self.apart = frames, quick, apart
        self.asked = []  # contents of every fetch

    def fetch(self, segments):
        self.asked += [[s.content for s in segments]] if segments else []
        for segment in segments:
            found = features_of(segment.content, self.frames[segment.content])
            yield segment.content, list(found) if self.apart else [found]


def corpus(form=FRAMES, contents="abcdef", *, quick, apart=False, **more):
    """Examples of six utterances, and their source. `budget` counts bytes: 48 (pooled) or 48 per frame."""
    segments = [SimpleNamespace(content=content) for content in contents]  # all that is asked of an utterance here
    frames = {c: None if form.pooled else LENGTHS["abcdef".index(c)] for c in contents}
    source = Source(frames, quick=quick, apart=apart)
    lengths = [frames[c] or 1 for c in contents]
    sizes = [4 * LAYERS * WIDTH * n for n in lengths]
    targets = [(i % 2,) for i in range(len(contents))]
    examples = FeatureExamples(source, segments, targets, form=form, lengths=lengths, sizes=sizes, **more)
    return examples, source


def held(examples):
    return sum(x.nbytes for x in examples._held.values())


@pytest.mark.parametrize(
    ("coming", "contents", "room", "steps", "rows", "wanted"),
    [
        ([[0, 1], [1, 2], [3]], "abcd", 30, 2, 4, {"a": 0, "b": 1, "c": 2}),
        ([[0, 1], [1, 0], [0]], "abcd", 20, 3, 5, {"a": 0, "b": 1}),
        ([[0, 1, 2], [3]], "abcd", 20, 0, 0, {}),
        ([[0, 2], [3]], "abac", 19, 1, 2, {"a": 2}),  # one sound under two names
        ([], "abcd", 20, 0, 0, {}),
    ],
)
def test_a_window_is_as_many_steps_as_fit(coming, contents, room, steps, rows, wanted):
    assert window(coming, contents, [10] * 4, room) == Window(steps=steps, rows=rows, wanted=wanted)


def test_frames_are_padded_with_zeros_and_layers_lie_first():
    examples, _ = corpus(quick=True)
    x, lengths = examples.batch([1, 2, 0])
    assert x.shape == (3, LAYERS, 7, WIDTH)
    assert lengths.tolist() == [2, 7, 5]
    for row, (content, frames) in enumerate([("b", 2), ("c", 7), ("a", 5)]):
        assert torch.equal(x[row, :, :frames], features_of(content, frames))
        assert torch.equal(x[row, :, frames:], torch.zeros(LAYERS, 7 - frames, WIDTH))
    assert x.transpose(0, 1).is_contiguous()


@pytest.mark.parametrize("form", [POOLED, FRAMES], ids=str)
@pytest.mark.parametrize("budget", [48, 200, 700, 10**6])
@pytest.mark.parametrize("quick", [True, False], ids=["stored", "streamed"])
@pytest.mark.parametrize("apart", [False, True], ids=["layers in one", "a tensor per layer"])
@pytest.mark.parametrize("layer", [None, 0, 2])
def test_the_same_batches_from_everywhere_and_with_every_budget(form, budget, quick, apart, layer):
    plain, _ = corpus(form, quick=True)
    examples, _ = corpus(form, quick=quick, apart=apart, layer=layer, budget=budget)
    for indices in ([0], [5, 1], [2, 2, 4], range(6)):
        examples.expect(iter([list(indices)]))
        expected, lengths = plain.batch(indices)
        x, found = examples.batch(indices)
        assert torch.equal(x, expected if layer is None else expected[:, layer : layer + 1])
        assert x.stride()[1:] == expected.stride()[1:] or layer is not None
        assert (found is None and lengths is None) or torch.equal(found, lengths)
    assert examples.lengths == ((1,) * 6 if form.pooled else LENGTHS)


def test_each_segment_is_fetched_once_per_window_whatever_the_steps_that_want_it():
    examples, source = corpus(quick=False, budget=2 * 48 * (5 + 2 + 7))
    steps = [[0, 1], [1, 2, 0], [0, 0], [3, 1], [2]]
    done = 0
    while done < len(steps):
        ready = examples.expect(iter(steps[done:]))
        for step in steps[done : done + ready]:
            examples.batch(step)
        done += ready
    assert source.asked == [["a", "b", "c"], ["b", "c", "d"]]


@pytest.mark.parametrize("frames", [7, 8, 14, 20, 27])
def test_never_more_than_half_of_the_budget_is_held(frames):
    budget = 2 * 48 * frames
    examples, _ = corpus(quick=False, budget=budget)
    steps = [[i, (i + 1) % 6] for i in range(6)] * 3
    done = windows = 0
    while done < len(steps):
        ready = examples.expect(iter(steps[done:]))
        assert ready >= 1
        for step in steps[done : done + ready]:
            examples.batch(step)
            assert held(examples) <= budget // 2
        done, windows = done + ready, windows + 1
    assert windows > 1


def test_a_step_that_is_larger_than_the_room_is_fetched_by_micro_batch():
    examples, source = corpus(quick=False, budget=2 * 48 * 7)
    assert examples.expect(iter([[0, 1, 2, 3], [4]])) == 1
    order = Order(seed=0, batches=lambda step: [[0, 1, 2, 3]])
    parts = micro_batches([order], examples, 0, protocol=PROTOCOL, size=2)
    assert source.asked == [["b", "d"], ["a", "c"]]  # by length
    assert [p.lengths.tolist() for p in parts] == [[2, 3], [5, 7]]
    assert held(examples) == 0


def test_a_window_is_forgotten_when_all_of_it_was_given_or_the_next_comes():
    examples, source = corpus(quick=False, budget=2 * 48 * 10)
    assert examples.expect(iter([[0, 1], [1]])) == 2
    examples.batch([0, 1])
    assert sorted(examples._held) == ["a", "b"]
    examples.batch([1])
    assert held(examples) == 0
    examples.expect(iter([[0], [0]]))
    examples.batch([0])
    assert examples.expect(iter([[3]])) == 1
    assert list(examples._held) == ["d"]
    assert source.asked == [["a", "b"], ["a"], ["d"]]


def test_sounds_that_are_the_same_are_fetched_once_and_stand_in_each_row():
    for form in (FRAMES, POOLED):
        for quick in (True, False):
            examples, source = corpus(form, "abcaba", quick=quick)
            x, _ = examples.batch(range(6))
            assert torch.equal(x[0], x[3])
            assert torch.equal(x[0], x[5])
            assert torch.equal(x[1], x[4])
            assert source.asked == [["a", "b", "c"]]


def test_the_same_sound_twice_in_a_step_takes_room_once():
    examples, _ = corpus(contents="aaaabb", quick=False, budget=2 * 48 * 7)
    assert examples.expect(iter([[0, 1, 2, 3], [4, 5], [0, 4]])) == 3
    assert held(examples) == 48 * 7


def test_time_means_within_the_budget_are_read_once_and_for_all():
    examples, source = corpus(POOLED, quick=True, budget=6 * 48)
    assert examples.expect(iter([[0], [1]])) == 0
    for step in ([0, 1], [3], [0, 1]):
        examples.batch(step)
    assert source.asked == [["a", "b", "c", "d", "e", "f"]]


def test_time_means_above_the_budget_are_read_in_blocks():
    examples, source = corpus(POOLED, quick=True, budget=6 * 48 - 1)
    assert source.asked == []
    assert examples.expect(iter([[0], [1], [2, 0], [3]])) == 2
    assert source.asked == [["a", "b"]]
    examples.batch([1])
    assert source.asked == [["a", "b"]]
    assert held(examples) == 2 * 48


def test_frames_that_fit_are_read_once_and_others_each_time():
    for budget, expected in ((48 * sum(LENGTHS), 1), (48 * sum(LENGTHS) - 1, 2)):
        examples, source = corpus(quick=True, budget=budget)
        assert examples.expect(iter([[0]])) == 0
        for _ in range(2):
            examples.batch([0, 1])
        assert source.asked == [["a", "b"]] * expected
        assert held(examples) <= budget


@pytest.mark.parametrize(
    ("form", "quick", "budget", "reads_ahead"),
    [
        (FRAMES, True, 10**6, True),
        (FRAMES, True, 1, True),
        (FRAMES, False, 10**6, False),
        (FRAMES, False, 1, False),
        (POOLED, True, 10**6, False),
        (POOLED, True, 1, False),
        (POOLED, False, 1, False),
    ],
)
def test_only_stored_frames_are_read_by_another_thread(form, quick, budget, reads_ahead):
    examples, _ = corpus(form, quick=quick, budget=budget)
    assert examples.reads_ahead is reads_ahead


@pytest.mark.parametrize("budget", [1, 10**6])
def test_features_that_are_the_same_for_every_utterance_are_told(budget):
    constant, _ = corpus(POOLED, "aaaaaa", quick=True, budget=budget)
    assert constant.spread() == 0
    different, _ = corpus(POOLED, quick=True, budget=budget)
    x, _ = different.batch(range(6))
    assert different.spread() == pytest.approx(float(x.double().std(dim=0).max()), abs=0)
    frames, _ = corpus(quick=True, budget=budget)
    assert frames.spread() == 0


def test_the_spread_is_looked_for_in_no_more_than_some_utterances():
    contents = ["a"] * LOOKED_AT + ["b"]
    examples, source = corpus(POOLED, contents, quick=True, budget=1)
    assert examples.spread() == 0
    assert source.asked == [["a"]]


@pytest.mark.parametrize("form", [POOLED, FRAMES], ids=str)
@pytest.mark.parametrize("quick", [True, False])
def test_the_norms_of_layers(form, quick):
    examples, _ = corpus(form, quick=quick, budget=100)
    found = examples.layer_norms([2, 0])
    means = [features_of(c, None if form.pooled else n).norm(dim=-1) for c, n in (("c", 7), ("a", 5))]
    expected = torch.stack([m if form.pooled else m.mean(dim=1) for m in means]).mean(dim=0)
    assert found == pytest.approx(expected.tolist(), rel=1e-6)
