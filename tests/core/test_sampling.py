"""Which utterances a step trains on, for each way of sampling, and that micro-batches change nothing of a step.

Expected orders are worked out by hand from reference/PROTOCOL.md, sections 1.1 to 1.5.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace
from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from superbench.augmentation import draw
from superbench.features.weighted_sum import Probe
from superbench.plugin import SpecAugment, TaskProtocol
from superbench.sampling import Pool, balanced_draw, derived_seed, sampler
from superbench.training.batches import Order, micro_batches
from superbench.training.candidates import Candidates

PROTOCOL = TaskProtocol(
    head="any",
    objective="ctc",
    metrics=("per",),
    steps=10,
    batch=4,
    accumulate=1,
    eval_every=2,
    clip=1.0,
    lr_grid=(0.1,),
)
KINDS = ("shuffled", "balanced", "length_buckets", "label_windows")


def pool(items, *, seconds=None, targets=None):
    """Items given by how many crops each has: 1 is a whole recording."""
    first = itertools.accumulate(items, initial=0)
    made = tuple(tuple(range(at, at + crops)) for at, crops in zip(first, items, strict=False))
    utterances = sum(items)
    return Pool(items=made, seconds=seconds or [1.0] * utterances, targets=targets or [(1,)] * utterances)


def drawn(protocol, from_pool, steps, seed=0):
    """All batches of the first steps, in order."""
    batches = sampler(protocol, from_pool, seed)
    return [batch for step in range(steps) for batch in batches(step)]


def test_shuffled_epochs_are_permutations_and_no_batch_is_short():
    protocol = replace(PROTOCOL, accumulate=2)
    steps = sampler(protocol, pool([1] * 10), 0)
    assert [[len(batch) for batch in steps(step)] for step in range(5)] == [[4, 4]] * 5
    row = [i for step in range(5) for batch in steps(step) for i in batch]  # 40 places: four epochs of 10
    epochs = [row[first : first + 10] for first in range(0, 40, 10)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 4
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_shuffled_takes_one_crop_of_a_bank_per_epoch_and_in_time_all():
    row = [i for batch in drawn(replace(PROTOCOL, batch=3), pool([1, 4, 1]), 200) for i in batch]
    epochs = [row[first : first + 3] for first in range(0, 600, 3)]
    assert all({0, 5} < set(epoch) and len(set(epoch) & {1, 2, 3, 4}) == 1 for epoch in epochs)
    found = Counter(i for epoch in epochs for i in epoch if i in (1, 2, 3, 4))
    assert sorted(found) == [1, 2, 3, 4]
    assert all(abs(n - 50) < 5 * sqrt(200 * 0.25 * 0.75) for n in found.values())


# Three classes of 1, 3 and 8 recordings; the last recording of the last class is a bank of 5 crops.
CLASSES = pool([1] * 11 + [5], targets=[(7,)] + [(2,)] * 3 + [(4,)] * 12)


def balanced_expectation():
    """Chance of each utterance: what torch's sampler draws by weights N / count, shared by the crops of a bank."""
    weights = torch.tensor([12 / 1] + [12 / 3] * 3 + [12 / 8] * 8, dtype=torch.float64)
    chances = (weights / weights.sum()).tolist()
    assert chances[0] == pytest.approx(1 / 3)
    assert chances[1] == pytest.approx(1 / 9)
    assert chances[11] == pytest.approx(1 / 24)
    return [*chances[:11], *[chances[11] / 5] * 5]


@pytest.mark.parametrize("through", ["sampler", "balanced_draw"])
def test_balanced_draws_items_as_torchs_weights_would(through):
    if through == "sampler":
        batches = drawn(replace(PROTOCOL, sampling="balanced", batch=32, accumulate=2), CLASSES, 300)
        assert {len(batch) for batch in batches} == {32}
        row = [i for batch in batches for i in batch]
    else:
        row = balanced_draw(CLASSES, 19_200, 5)
    assert len(row) == 19_200
    found = Counter(row)
    for utterance, chance in enumerate(balanced_expectation()):
        assert abs(found[utterance] - len(row) * chance) < 5 * sqrt(len(row) * chance * (1 - chance)), utterance
    for members in ((0,), (1, 2, 3), range(4, 16)):
        hits = sum(found[i] for i in members)
        assert abs(hits - len(row) / 3) < 5 * sqrt(len(row) * 2 / 9)


def test_torchs_own_sampler_draws_with_the_expected_chances():
    """What the expectation of the test above is worth: the reference's sampler, given its weights."""
    weights = [12 / 1] + [12 / 3] * 3 + [12 / 8] * 8
    generator = torch.Generator().manual_seed(3)
    found = Counter(torch.utils.data.WeightedRandomSampler(weights, 12_000, replacement=True, generator=generator))
    expected = [*balanced_expectation()[:11], sum(balanced_expectation()[11:])]
    for item, chance in enumerate(expected):
        assert abs(found[item] - 12_000 * chance) < 5 * sqrt(12_000 * chance * (1 - chance))


def test_a_balanced_draw_is_a_function_of_its_seed():
    assert balanced_draw(CLASSES, 50, 1) == balanced_draw(CLASSES, 50, 1)
    assert balanced_draw(CLASSES, 50, 1) != balanced_draw(CLASSES, 50, 2)


# 37 recordings; 7 * i modulo 37 takes every value from 0 to 36 once: lengths in no order.
LENGTHS = [1.0 + 7 * i % 37 for i in range(37)]
LONGEST_FIRST = sorted(range(37), key=lambda i: LENGTHS[i], reverse=True)


def test_length_buckets_are_consecutive_groups_longest_first():
    protocol = replace(PROTOCOL, sampling="length_buckets", batch=16)
    groups = [tuple(LONGEST_FIRST[:16]), tuple(LONGEST_FIRST[16:32]), tuple(LONGEST_FIRST[32:])]
    batches = [tuple(batch) for batch in drawn(protocol, pool([1] * 37, seconds=LENGTHS), 30)]
    assert [LENGTHS[i] for i in groups[2]] == [5.0, 4.0, 3.0, 2.0, 1.0]  # the last one is short, and kept
    epochs = [tuple(batches[first : first + 3]) for first in range(0, 30, 3)]
    assert all(sorted(epoch) == sorted(groups) for epoch in epochs)
    assert len(set(epochs)) > 1  # the order of the buckets is shuffled


def test_label_windows_are_a_drawn_utterance_and_the_15_after_it():
    lengths = [3 * i % 50 + 1 for i in range(50)]  # 1 to 50 labels, each number once
    most_first = sorted(range(50), key=lambda i: lengths[i], reverse=True)
    windows = [tuple(most_first[min(i, 34) : min(i, 34) + 16]) for i in range(50)]
    protocol = replace(PROTOCOL, sampling="label_windows", batch=16, halve_above=18.75)
    made = pool([1] * 50, targets=[(1,) * n for n in lengths])
    batches = [tuple(batch) for batch in drawn(protocol, made, 100)]
    for epoch in (batches[:50], batches[50:]):
        assert Counter(epoch) == Counter(windows)
        assert Counter(epoch)[windows[-1]] == 16  # of the starts 34 to 49 each is clamped to 34
        times = Counter(i for window in epoch for i in window)
        assert {times[i] for i in most_first[15:34]} == {16}
        assert [times[i] for i in most_first[:15]] == list(range(1, 16))
    assert batches[:50] != batches[50:]
    two = sampler(replace(protocol, accumulate=2), made, 0)
    assert [tuple(batch) for step in range(25) for batch in two(step)] == batches[:50]
    assert {len(two(step)) for step in range(25)} == {2}


def test_fewer_utterances_than_a_window_are_all_in_it():
    protocol = replace(PROTOCOL, sampling="label_windows", batch=16)
    made = pool([1] * 3, targets=[(1,), (1, 1, 1), (1, 1)])
    assert drawn(protocol, made, 6) == [[1, 2, 0]] * 6


def test_a_window_is_halved_by_its_first_utterance_alone():
    protocol = replace(PROTOCOL, sampling="label_windows", batch=16, halve_above=18.75)
    # 20 utterances from the most labels to the least; the third is one sample too long, the fourth just short enough.
    seconds = [1.0] * 20
    seconds[2], seconds[3] = 300_001 / 16_000, 300_000 / 16_000
    made = pool([1] * 20, seconds=seconds, targets=[(1,) * (20 - i) for i in range(20)])
    windows = {batch[0]: batch for batch in drawn(protocol, made, 20)}
    assert windows == {
        0: list(range(16)),
        1: list(range(1, 17)),
        2: list(range(2, 10)),
        3: list(range(3, 19)),
        4: list(range(4, 20)),
    }
    made.seconds[4] = 18.76
    assert {len(b) for b in drawn(protocol, made, 20) if b[0] == 4} == {8}
    assert {len(b) for b in drawn(replace(protocol, halve_above=None), made, 20)} == {16}


def mixed_pool():
    return pool(
        [1, 1, 3, 1, 1, 1, 1, 2, 1],
        seconds=[2.0, 9.0, 3.0, 3.0, 3.0, 5.0, 4.0, 8.0, 7.0, 6.0, 6.0, 1.0],
        targets=[(1, 2), (2, 1, 2, 3), *[(1, 3)] * 3, (3,), (1,), (2, 3, 1), (3, 1), *[(2, 1)] * 2, (1, 3, 1)],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_a_function_of_seed_and_step_alone(kind):
    protocol = replace(PROTOCOL, sampling=kind, accumulate=2)
    torch.manual_seed(1)
    random.seed(1)
    expected = [sampler(protocol, mixed_pool(), 4)(step) for step in range(12)]
    torch.manual_seed(2)
    random.seed(2)
    state = torch.get_rng_state()
    again = sampler(protocol, mixed_pool(), 4)
    backwards = {step: again(step) for step in (11, 3, 0, 7, 3, 10, 9, 8, 6, 5, 4, 2, 1)}
    assert [backwards[step] for step in range(12)] == expected
    assert torch.equal(torch.get_rng_state(), state)
    assert [sampler(protocol, mixed_pool(), 5)(step) for step in range(12)] != expected


class Frames:
    """Twelve utterances of 3 layers of 6 features in float64, of unequal lengths."""

    lengths = (9, 14, 11, 11, 11, 8, 7, 16, 13, 12, 12, 15)
    reads_ahead = False

    def expect(self, coming):
        return 0

    def __init__(self, objective):
        labels = None if objective == "ctc" else 1  # a class is one label
        self.targets = tuple(target[:labels] for target in mixed_pool().targets)
        generator = torch.Generator().manual_seed(0)
        self.x = [torch.randn(3, n, 6, dtype=torch.float64, generator=generator) for n in self.lengths]

    def batch(self, indices):
        longest = max(self.lengths[i] for i in indices)
        padded = [F.pad(self.x[i], (0, 0, 0, longest - self.lengths[i])) for i in indices]
        return torch.stack(padded), torch.tensor([self.lengths[i] for i in indices])


class FrameHead(nn.Module):
    def __init__(self, gives):
        super().__init__()
        self.linear = nn.Linear(6, 4, dtype=torch.float64)
        self.gives = gives

    def forward(self, x_BTD, lengths_B):
        logits_BTC = self.linear(x_BTD).tanh()
        if self.gives == "frames":
            return logits_BTC
        return torch.stack([logits_TC[:n].mean(dim=0) for logits_TC, n in zip(logits_BTC, lengths_B, strict=True)])


def probe(objective):
    torch.manual_seed(0)
    made = Probe(3, FrameHead("frames" if objective == "ctc" else "utterance")).double()
    with torch.no_grad():
        made.featurizer.weights.copy_(torch.tensor([0.3, -0.2, 0.1]))
    return made


def gradients(model):
    return [parameter.grad.clone() for parameter in model.parameters()]


def step_gradients(protocol, micro_batch, step):
    """Loss and gradients of one step of the product."""
    model, examples = probe(protocol.objective), Frames(protocol.objective)
    order = Order(seed=3, batches=sampler(protocol, mixed_pool(), 3))
    micro = micro_batches([order], examples, step, protocol=protocol, size=micro_batch)
    assert max(len(m.targets) for m in micro) <= micro_batch
    candidates = Candidates([model], [0.1], precision="float64")
    (loss,), _ = candidates.step(micro, objective=protocol.objective, blank=0, clip=1e9)
    return loss, gradients(model)


def reference_gradients(protocol, step):
    """One utterance after the other, no padding: sum over the batches of the mean loss, over their number."""
    model, examples = probe(protocol.objective), Frames(protocol.objective)
    batches = sampler(protocol, mixed_pool(), 3)(step)
    ordered = sorted((i for batch in batches for i in batch), key=lambda i: Frames.lengths[i])
    augmented = None
    if protocol.augment:
        lengths = [Frames.lengths[i] for i in ordered]
        augmented = draw(protocol.augment, lengths, 6, derived_seed(3, "augment", step))
    place = {}
    for at, i in enumerate(ordered):
        place.setdefault(i, []).append(at)
    total = torch.zeros((), dtype=torch.float64)
    for batch in batches:
        for i in batch:
            length, target = torch.tensor([Frames.lengths[i]]), torch.tensor([list(examples.targets[i])])
            augment = None
            if augmented:
                at = place[i].pop(0)
                augment = augmented[at : at + 1]
            logits = model(examples.x[i][None], length, augment)
            if protocol.objective == "ctc":
                scores_TBC = logits.log_softmax(dim=-1).transpose(0, 1)
                sizes = torch.tensor([target.shape[1]])
                loss = F.ctc_loss(scores_TBC, target, length, sizes, reduction="none", zero_infinity=True)[0]
                loss = loss / target.shape[1]
            else:
                loss = F.cross_entropy(logits, target[:, 0])
            total = total + loss / len(batch) / len(batches)
    total.backward()
    return float(total.detach()), gradients(model)


AUGMENT = SpecAugment(time_warp=3, frequency_masks=2, frequency_width=3, time_masks=1, time_width=4)


@pytest.mark.parametrize("objective", ["ctc", "cross_entropy"])
@pytest.mark.parametrize("augment", [None, AUGMENT], ids=["plain", "augmented"])
@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_change_no_loss_and_no_gradient(kind, augment, objective):
    protocol = replace(PROTOCOL, objective=objective, sampling=kind, accumulate=2, augment=augment, halve_above=6.5)
    sizes = {len(batch) for step in range(6) for batch in sampler(protocol, mixed_pool(), 3)(step)}
    assert sizes == {"shuffled": {4}, "balanced": {4}, "length_buckets": {1, 4}, "label_windows": {2, 4}}[kind]
    for step in range(6):
        expected_loss, expected = reference_gradients(protocol, step)
        assert max(float(g.abs().max()) for g in expected) > 1e-4
        for micro_batch in (1, 2, 3, 8):
            loss, found = step_gradients(protocol, micro_batch, step)
            assert loss == pytest.approx(expected_loss, rel=0, abs=1e-12)
            for ours, wanted in zip(found, expected, strict=True):
                torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-12)
