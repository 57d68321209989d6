"""The heads are what they say: pooling loses nothing, the LSTMs are torch's own, and padding is never read."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from superbench.errors import UsageError
from superbench.features.weighted_sum import Probe, WeightedSum, layer_weights, norm_corrected
from superbench.options import build_options
from superbench.training.batches import MicroBatch
from superbench.training.candidates import Candidates
from superbench.training.objectives import Targets, losses_of
from superbench_downstreams.blstm import BlstmHead, flip_within
from superbench_downstreams.linear import LinearHead
from superbench_downstreams.specs import SPECS

LENGTHS = ([5], [7, 7, 7], [1, 9, 4, 2], [12, 1])
EXACT = {"rtol": 0, "atol": 1e-12}


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def frames(lengths, layers=3, width=6):
    """Features [L, T, D] of each utterance, float64."""
    return [torch.randn(layers, n, width, dtype=torch.float64) for n in lengths]


def padded(items, filling=0.0):
    """x_BLTD and lengths_B."""
    x = pad_sequence([x.transpose(0, 1) for x in items], batch_first=True, padding_value=filling)
    return x.transpose(1, 2), torch.tensor([x.shape[1] for x in items])


class MeanOfFrames(nn.Module):
    """SUPERB's utterance head as s3prl runs it: on all frames, then the mean over time."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, x_BTD, lengths):
        hidden = self.head.projector(x_BTD)
        mask = (torch.arange(x_BTD.shape[1])[None] < lengths[:, None]).to(x_BTD.dtype)[..., None]
        return self.head.linear((hidden * mask).sum(1) / lengths[:, None])


@pytest.mark.parametrize("lengths", LENGTHS)
def test_training_on_time_means_is_training_on_frames(lengths):
    on_means = Probe(3, LinearHead(6, 4, projector=5)).double()
    on_frames = Probe(3, MeanOfFrames(copy.deepcopy(on_means.head))).double()
    with torch.no_grad():
        for probe in (on_means, on_frames):
            probe.featurizer.weights.copy_(torch.tensor([0.3, -1.0, 0.5]))
    items = frames(lengths)
    targets = Targets.of([(i % 4,) for i in range(len(items))])
    x_means, (x_frames, lengths_B) = torch.stack([x.mean(1) for x in items]), padded(items)
    losses = [
        losses_of("cross_entropy", 0, on_means(x_means)[None], None, targets).mean(),
        losses_of("cross_entropy", 0, on_frames(x_frames, lengths_B)[None], None, targets).mean(),
    ]
    torch.testing.assert_close(on_means(x_means), on_frames(x_frames, lengths_B), **EXACT)
    for loss in losses:
        loss.backward()
    gradients = [p.grad for p in on_means.parameters()]
    assert len(gradients) == 5
    for ours, theirs in zip(gradients, [p.grad for p in on_frames.parameters()], strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)


def torchs_blstm(head, layers):
    """torch's own bidirectional LSTM with the weights of a `BlstmHead`."""
    lstm = nn.LSTM(
        head.forwards[0].input_size, head.forwards[0].hidden_size, layers, batch_first=True, bidirectional=True
    ).double()
    state = {}
    for direction, suffix in ((head.forwards, ""), (head.backwards, "_reverse")):
        for layer, one in enumerate(direction):
            for name, value in one.state_dict().items():
                state[f"{name.removesuffix('_l0')}_l{layer}{suffix}"] = value
    lstm.load_state_dict(state)
    return lstm


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_the_recurrent_head_is_torchs_packed_bidirectional_lstm(lengths, layers):
    head = BlstmHead(6, 4, projector=5, hidden=7, layers=layers, dropout=0.0).double()
    lstm = torchs_blstm(head, layers)
    x = pad_sequence([x[0] for x in frames(lengths)], batch_first=True)
    lengths_B = torch.tensor(lengths)
    packed = pack_padded_sequence(head.projector(x), lengths_B, batch_first=True, enforce_sorted=False)
    expected = head.linear(pad_packed_sequence(lstm(packed)[0], batch_first=True)[0])
    found = head(x, lengths_B)
    for row, n in enumerate(lengths):
        torch.testing.assert_close(found[row, :n], expected[row, :n], **EXACT)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("kind", ["blstm", "linear"])
def test_neither_the_batch_nor_what_pads_it_matters(kind, lengths):
    head = {
        "blstm": lambda: BlstmHead(6, 4, projector=5, hidden=7, layers=2, dropout=0.0),
        "linear": lambda: LinearHead(6, 4, projector=5),
    }[kind]()
    probe = Probe(3, head).double()
    items = frames(lengths)
    outputs = []
    for filling, more in ((0.0, 0), (1e3, 0), (-5.0, 6)):
        x, lengths_B = padded(items, filling)
        x = torch.cat((x, torch.full((*x.shape[:2], more, x.shape[3]), filling, dtype=x.dtype)), 2)
        outputs.append(probe(x, lengths_B))
    for row, item in enumerate(items):
        alone = probe(item[None], torch.tensor([item.shape[1]]))[0]
        for output in outputs:
            torch.testing.assert_close(output[row, : item.shape[1]], alone, **EXACT)


@pytest.mark.parametrize("shape", [(2, 6), (2, 40, 6)], ids=["one layer after the other", "their product first"])
@pytest.mark.parametrize("number", [1, 3])
def test_linear_heads_together_are_two_layers_each(number, shape):
    heads = [LinearHead(6, 4, projector=5).double() for _ in range(number)]
    stacked = {
        name: torch.stack([head.get_parameter(name).detach() for head in heads]).requires_grad_()
        for name, _ in heads[0].named_parameters()
    }
    x = torch.randn(number, *shape, dtype=torch.float64)
    found = heads[0].together(stacked, x)
    found.sin().sum().backward()
    for at, head in enumerate(heads):
        expected = head.linear(head.projector(x[at]))
        torch.testing.assert_close(found[at], expected, **EXACT)
        torch.testing.assert_close(head(x[at]), expected, **EXACT)
        expected.sin().sum().backward()
        for name, parameter in head.named_parameters():
            torch.testing.assert_close(stacked[name].grad[at], parameter.grad, **EXACT)


def test_flipping_twice_is_nothing_and_padding_stays():
    x = torch.arange(24.0).view(2, 4, 3)
    lengths = torch.tensor([3, 4])
    flipped = flip_within(x, lengths)
    assert flipped[0, :, 0].tolist() == [6, 3, 0, 9]
    assert flipped[1, :, 0].tolist() == [21, 18, 15, 12]
    assert torch.equal(flip_within(flipped, lengths), x)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("micro", [1, 2, 3, 4, 5, 6])
def test_micro_batches_of_any_size_give_the_gradient_of_the_whole_batch(micro, dropout):
    items, targets = frames([4, 9, 6, 6, 2, 5]), [(1, 2), (2,), (1, 1), (3, 1), (1,), (2, 2)]

    def gradient(size):
        torch.manual_seed(1)
        probe = Probe(3, BlstmHead(6, 4, projector=5, hidden=7, layers=2, dropout=dropout)).double()
        parts = []
        for first in range(0, len(items), size):
            mine = slice(first, first + size)
            x, lengths = padded(items[mine])
            shares = torch.full((len(x),), 1 / len(items), dtype=torch.float64)
            wanted = Targets.of(targets[mine])
            parts.append(MicroBatch(x=x, lengths=lengths, targets=wanted, shares=shares, place=(0, 7, first)))
        candidates = Candidates([probe], [1.0], precision="float64")
        (loss,), (norm,) = candidates.step(parts, objective="ctc", blank=0, clip=1e9)
        return loss, norm, [p.grad for p in probe.parameters()]

    loss, norm, whole = gradient(6)
    assert norm > 1e-2
    found_loss, found_norm, found = gradient(micro)
    assert found_loss == pytest.approx(loss, rel=0, abs=1e-12)
    assert found_norm == pytest.approx(norm, rel=0, abs=1e-12)
    for ours, theirs in zip(found, whole, strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)


def test_training_begins_at_the_plain_mean_of_the_layers():
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    featurizer = WeightedSum(3).double()
    torch.testing.assert_close(featurizer(x), x.mean(1), **EXACT)
    probe = Probe(3, nn.Identity())
    assert layer_weights(probe) == pytest.approx([1 / 3] * 3)
    assert norm_corrected((0.5, 0.5), (1.0, 3.0)) == (0.25, 0.75)
    assert norm_corrected((0.5, 0.5), (0.0, 0.0)) == (0.5, 0.5)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_registered_head_gives_what_its_spec_says(spec):
    small = {"projector": "5", "hidden": "7"} if spec.name == "blstm" else {"projector": "5"}
    head = spec.build(build_options(spec.options, small, who=spec.name), 6, 4)
    x = torch.randn((2, 9, 6) if spec.reads == "frames" else (2, 6))
    lengths = torch.tensor([9, 3]) if spec.reads == "frames" else None
    found = head(x, lengths) if lengths is not None else head(x)
    assert tuple(found.shape) == ((2, 9, 4) if spec.gives == "frames" else (2, 4))
    assert spec.summary


@pytest.mark.parametrize("text", ["projector=0", "projector=-3", "projector=1.5"])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_sizes_that_make_no_sense_are_refused(spec, text):
    name, value = text.split("=")
    with pytest.raises(UsageError, match="projector"):
        build_options(spec.options, {name: value}, who=spec.name)
