"""SpecAugment on the weighted sum, held against a slow one written from reference/PROTOCOL.md, section 1.1.

There: time warp of window 5 (bicubic, per utterance, skipped where T <= 10), 4 masks of U[0, 50) features, 2 masks of
U[0, 40) frames, zeros; a mask's place is below the size less the widest mask of the whole batch.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from superbench.augmentation import draw
from superbench.features.weighted_sum import Probe
from superbench.plugin import SpecAugment, TaskProtocol
from superbench.progress import Bar
from superbench.sampling import Pool, sampler
from superbench.training.batches import Order, micro_batches
from superbench.training.fitting import Lane, Trial, fit
from superbench.training.prediction import log_probabilities

SUPERB = SpecAugment(time_warp=5, frequency_masks=4, frequency_width=50, time_masks=2, time_width=40)
LENGTHS = [120, 97, 97, 60, 30, 12, 11, 10, 4, 1]


def batch(width=80, seed=0):
    """Noise [10, 120, width] in float64, zero behind every length."""
    x_BTD = torch.randn(len(LENGTHS), max(LENGTHS), width, generator=torch.Generator().manual_seed(seed)).double()
    for row, length in enumerate(LENGTHS):
        x_BTD[row, length:] = 0
    return x_BTD, torch.tensor(LENGTHS)


def slowly(x_BTD, lengths_B, drawn):
    """The same by the drawn numbers: an utterance, a part and a mask at a time."""
    out_BTD = x_BTD.clone()
    for row, length in enumerate(lengths_B.tolist()):
        point, moved = drawn.warps[row].tolist()
        if length > 10:
            left, right = out_BTD[row, :point].clone(), out_BTD[row, point:length].clone()
            for part, begin, end in ((left, 0, moved), (right, moved, length)):
                resized = F.interpolate(part[None, None], (end - begin, part.shape[1]), mode="bicubic")
                out_BTD[row, begin:end] = resized[0, 0]
        for first, width in drawn.features[row].tolist():
            for d in range(first, first + width):
                out_BTD[row, :, d] = 0.0
        for first, width in drawn.frames[row].tolist():
            for t in range(first, first + width):
                out_BTD[row, t] = 0.0
    return out_BTD


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_slow_one(seed):
    x_BTD, lengths_B = batch(seed=seed)
    drawn = draw(SUPERB, LENGTHS, 80, seed)
    kept = x_BTD.clone()
    found = drawn(x_BTD, lengths_B)
    torch.testing.assert_close(found, slowly(x_BTD, lengths_B, drawn), rtol=0, atol=1e-12)
    assert torch.equal(x_BTD, kept)
    assert not torch.equal(found, x_BTD)


def test_every_number_stays_in_its_range_and_reaches_its_ends():
    widths = {"features": set(), "frames": set()}
    points, shifts = set(), set()
    for seed in range(400):
        drawn = draw(SUPERB, [100, 70, 11], 200, seed)
        assert drawn.features.shape == (3, 4, 2)
        assert drawn.frames.shape == (3, 2, 2)
        for name, size in (("features", 200), ("frames", 100)):
            firsts, wide = getattr(drawn, name).unbind(dim=2)
            assert int(firsts.min()) >= 0
            assert int(firsts.max()) < size - int(wide.max())  # of the whole batch, not of the one mask
            widths[name] |= set(wide.flatten().tolist())
        for (point, moved), length in zip(drawn.warps.tolist(), (100, 70, 11), strict=True):
            assert 5 <= point < length - 5
            assert -5 < moved - point <= 5
            assert 0 < moved < length
            points.add((length, point))
            shifts.add(moved - point)
    assert widths == {"features": set(range(50)), "frames": set(range(40))}
    assert shifts == set(range(-4, 6))
    assert {point for length, point in points if length == 11} == {5}
    assert {5, 64} <= {point for length, point in points if length == 70}


def test_masks_lie_over_the_longest_utterance_and_reach_its_last_places():
    ends = torch.stack([draw(SUPERB, [60, 20], 64, seed).frames.sum(dim=2).amax(dim=1) for seed in range(300)])
    assert ends.amax(dim=0).tolist() == [59, 59]  # one short of the end; of a short utterance often in its padding


def test_a_mask_wider_than_the_batch_begins_at_its_first_frame():
    firsts = {tuple(draw(SUPERB, [8, 3], 6, seed).frames[..., 0].flatten().tolist()) for seed in range(50)}
    assert (0, 0, 0, 0) in firsts
    x_BTD = torch.ones(2, 8, 6)
    for seed in range(50):
        assert draw(SUPERB, [8, 3], 6, seed)(x_BTD, torch.tensor([8, 3])).shape == x_BTD.shape


def test_ten_frames_are_not_warped_and_eleven_are():
    unmasked = replace(SUPERB, frequency_masks=0, time_masks=0)
    x_BTD, lengths_B = batch()
    drawn = draw(unmasked, LENGTHS, 80, 1)
    found = drawn(x_BTD, lengths_B)
    same = [torch.equal(found[row], x_BTD[row]) for row in range(len(LENGTHS))]
    assert same == [False] * 7 + [True] * 3
    assert drawn.warps[7:].tolist() == [[0, 0]] * 3
    # The last utterance of 11 frames: its left part of 5 frames becomes 1 to 10 frames, and the right one the rest.
    assert {draw(unmasked, [11], 80, seed).warps[0].tolist()[1] for seed in range(200)} == set(range(1, 11))


def test_padding_stays_zero_and_has_no_part_in_the_warp():
    x_BTD, lengths_B = batch()
    drawn = draw(SUPERB, LENGTHS, 80, 2)
    found = drawn(x_BTD, lengths_B)
    for row, length in enumerate(LENGTHS):
        assert not found[row, length:].any()
        alone = drawn[row : row + 1](x_BTD[row : row + 1, :length], lengths_B[row : row + 1])
        torch.testing.assert_close(found[row, :length], alone[0], rtol=0, atol=1e-12)


def test_nothing_drawn_depends_on_how_the_batch_is_cut():
    drawn = draw(SUPERB, LENGTHS, 80, 3)
    x_BTD, lengths_B = batch()
    whole = drawn(x_BTD, lengths_B)
    for size in (1, 3, 4):
        parts = []
        for first in range(0, len(LENGTHS), size):
            rows = slice(first, first + size)
            longest = max(LENGTHS[rows])
            part = drawn[rows](x_BTD[rows, :longest], lengths_B[rows])
            parts.append(F.pad(part, (0, 0, 0, max(LENGTHS) - longest)))
        assert torch.equal(torch.cat(parts), whole)


def test_a_draw_is_a_function_of_its_seed():
    torch.manual_seed(0)
    first = draw(SUPERB, LENGTHS, 80, 7)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    again, other = draw(SUPERB, LENGTHS, 80, 7), draw(SUPERB, LENGTHS, 80, 8)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)
    for name in ("warps", "features", "frames"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


class FrameHead(nn.Linear):
    def forward(self, x, lengths=None):
        return super().forward(x)


def test_the_gradient_reaches_the_layer_weights_through_it():
    torch.manual_seed(0)
    probe = Probe(3, FrameHead(80, 5)).double()
    x_BLTD = torch.randn(2, 3, 40, 80, dtype=torch.float64)
    lengths_B = torch.tensor([40, 33])
    augment = draw(SUPERB, [40, 33], 80, 0)
    probe(x_BLTD, lengths_B, augment).square().sum().backward()
    slope = probe.featurizer.weights.grad
    probe.requires_grad_(False)
    for layer in range(3):  # against a difference quotient
        values = []
        for step in (1e-6, -1e-6):
            probe.featurizer.weights[layer] += step
            values.append(float(probe(x_BLTD, lengths_B, augment).square().sum()))
            probe.featurizer.weights[layer] -= step
        assert float(slope[layer]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)
        assert abs(float(slope[layer])) > 1e-3


class TogetherHead(FrameHead):
    def together(self, parameters, x_CBTD, lengths):
        weight_CKD, bias_CK = parameters["weight"], parameters["bias"]
        return torch.einsum("cbtd,ckd->cbtk", x_CBTD, weight_CKD) + bias_CK[:, None, None]


class Watched(Probe):
    """A probe that keeps what it was called with: candidates, in training?, augmented?"""

    def __init__(self, head):
        super().__init__(2, head)
        self.calls = []

    def _together(self, parameters, x, lengths=None, *, lanes=1, augment=None):
        self.calls.append((len(parameters["head.bias"]), self.training, augment is not None))
        return super()._together(parameters, x, lengths, lanes=lanes, augment=augment)

    def forward(self, x, lengths=None, augment=None):
        self.calls.append((1, self.training, augment is not None))
        return super().forward(x, lengths, augment)


class Frames:
    lengths = (20, 25, 30, 22)
    targets = ((1, 2), (2,), (3, 1), (1,))
    reads_ahead = False

    def expect(self, coming):
        return 0

    def batch(self, indices):
        generator = torch.Generator().manual_seed(0)
        longest = max(self.lengths[i] for i in indices)
        x = torch.randn(4, 2, longest, 6, generator=generator)[list(indices)]
        return x, torch.tensor([self.lengths[i] for i in indices])


@pytest.mark.parametrize(
    ("head", "grid", "at_once"),
    [(FrameHead, (0.1,), 1), (FrameHead, (0.1, 0.2), 1), (TogetherHead, (0.1, 0.2), 2)],
    ids=["alone", "one by one", "together"],
)
def test_training_is_augmented_and_evaluation_is_not(head, grid, at_once, tmp_path):
    protocol = TaskProtocol(
        head="any",
        objective="ctc",
        metrics=("per",),
        steps=4,
        batch=2,
        accumulate=1,
        eval_every=2,
        clip=1.0,
        lr_grid=grid,
        augment=SUPERB,
    )
    made = []
    pool = Pool(items=((0,), (1,), (2,)), seconds=[1.0] * 4, targets=Frames.targets)
    order = Order(seed=0, batches=sampler(protocol, pool, 0))
    trial = Trial(protocol=protocol, blank=0, direction="min", device="cpu", threads=1, micro_batch=2)
    lane = Lane(name="only", order=order, dev=(3,), evaluate=lambda found: 0.5)

    def build():
        made.append(Watched(head(6, 4)))
        return made[-1]

    found = fit(build, Frames(), trial, [lane], folder=tmp_path, bar=Bar())
    called = [(at_once, True, True), (at_once, True, True), (at_once, False, False)] * 2
    assert [model.calls for model in made if model.calls] == [called] * (len(grid) // at_once)
    _, model = found["only", 0.1]
    log_probabilities(model, Frames(), 3)
    assert model.calls == [(1, False, False)]
    unaugmented = replace(protocol, augment=None)
    for given, augmented in ((protocol, True), (unaugmented, False)):
        micro = micro_batches([order], Frames(), 0, protocol=given, size=2)
        assert [m.augment is not None for m in micro] == [augmented]
