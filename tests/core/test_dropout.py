"""Dropout of utterances: what is dropped follows from seed, step and place in the effective batch alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from superbench.dropout import UtteranceDropout, drawn_for

LENGTHS = [7, 3, 12, 12, 1, 9]
PLACE = (4, 11)  # seed and step


def ones(lengths, more=0, width=5):
    """x_BTD of ones, all padding included, and lengths_B; `more` frames of padding behind the longest."""
    return torch.ones(len(lengths), max(lengths) + more, width), torch.tensor(lengths)


def dropped(lengths, first=0, *, seed=4, step=11, more=0, p=0.5, calls=1):
    """What the last of some layers leaves of the ones."""
    x_BTD, lengths_B = ones(lengths, more)
    layers = [UtteranceDropout(p) for _ in range(calls)]
    with drawn_for(seed, step, first):
        return [layer(x_BTD, lengths_B) for layer in layers][-1]


def of_utterances(found_BTD, lengths):
    return [x_TD[:n] for x_TD, n in zip(found_BTD, lengths, strict=True)]


@pytest.fixture(autouse=True)
def _global_generator_is_left_alone():
    """Masks come from generators of their own: whatever else is drawn before or after changes nothing."""
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_how_the_effective_batch_is_cut_changes_no_mask(size):
    whole = of_utterances(dropped(LENGTHS), LENGTHS)
    assert 0 < torch.cat(whole).count_nonzero() < torch.cat(whole).numel()
    for first in reversed(range(0, len(LENGTHS), size)):
        torch.manual_seed(first)
        part = LENGTHS[first : first + size]
        found = of_utterances(dropped(part, first), part)
        for ours, expected in zip(found, whole[first : first + size], strict=True):
            assert torch.equal(ours, expected)


def test_padding_changes_no_mask_and_is_dropped():
    found, padded = dropped(LENGTHS), dropped(LENGTHS, more=20)
    assert torch.equal(padded[:, : max(LENGTHS)], found)
    for x_TD, frames in zip(padded, LENGTHS, strict=True):
        assert not x_TD[frames:].any()


def test_every_utterance_has_a_mask_of_its_own_also_where_they_are_equally_long():
    rows = dropped([30] * 6)
    assert len({tuple(row.flatten().tolist()) for row in rows}) == 6
    assert not torch.equal(rows[0], dropped([30] * 6, 1)[0])


@pytest.mark.parametrize("change", [{"seed": 5}, {"step": 12}, {"first": 1}, {"calls": 2}, {"calls": 3}], ids=str)
def test_another_seed_step_place_or_layer_has_other_masks(change):
    found = {"as it was": dropped([30]), "again": dropped([30]), "changed": dropped([30], **change)}
    assert torch.equal(found["as it was"], found["again"])
    assert not torch.equal(found["as it was"], found["changed"])


def test_the_layers_of_a_head_differ_and_the_next_forward_pass_begins_anew():
    x_BTD, lengths_B = ones([30, 30])
    layer = UtteranceDropout(0.5)  # one module for all layers, as the recurrent head has it
    passes = []
    for _ in range(2):
        with drawn_for(*PLACE, 0):
            passes.append([layer(x_BTD, lengths_B) for _ in range(3)])
    assert len({tuple(x.flatten().tolist()) for x in passes[0]}) == 3
    assert all(torch.equal(one, again) for one, again in zip(*passes, strict=True))


def test_contexts_may_lie_within_each_other():
    x_BTD, lengths_B = ones([30])
    layer = UtteranceDropout(0.5)
    with drawn_for(*PLACE, 0):
        layer(x_BTD, lengths_B)
        with drawn_for(0, 0, 0):
            layer(x_BTD, lengths_B)
        assert torch.equal(layer(x_BTD, lengths_B), dropped([30], calls=2))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_what_is_kept_is_scaled_and_as_many_are_dropped_as_asked_for(p):
    found = dropped([400, 400], p=p)
    kept = found[found != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)), rtol=1e-6, atol=0)
    share = 1 - len(kept) / found.numel()
    assert abs(share - p) < 5 * (p * (1 - p) / found.numel()) ** 0.5


def test_gradients_pass_where_values_do():
    x_BTD, lengths_B = ones(LENGTHS)
    x_BTD.requires_grad_()
    with drawn_for(*PLACE, 0):
        found = UtteranceDropout(0.25)(x_BTD, lengths_B)
    found.sum().backward()
    assert torch.equal(x_BTD.grad, found.detach())  # of ones: the mask over 1 - p is both


def test_masks_are_the_same_in_float64():
    x_BTD, lengths_B = ones(LENGTHS)
    with drawn_for(*PLACE, 0):
        found = UtteranceDropout(0.5)(x_BTD.double(), lengths_B)
    assert found.dtype == torch.float64
    assert torch.equal(found.float(), dropped(LENGTHS))


def test_nothing_is_drawn_from_the_generator_of_all():
    before = torch.get_rng_state()
    dropped(LENGTHS)
    assert torch.equal(torch.get_rng_state(), before)


def test_outside_of_training_steps_it_is_torchs_dropout():
    x_BTD, lengths_B = ones(LENGTHS)
    with drawn_for(*PLACE, 0):
        pass
    torch.manual_seed(3)
    found = UtteranceDropout(0.3)(x_BTD, lengths_B)
    torch.manual_seed(3)
    assert torch.equal(found, nn.Dropout(0.3)(x_BTD))


def test_a_context_ends_with_an_error_in_it():
    x_BTD, lengths_B = ones(LENGTHS)
    with pytest.raises(KeyError), drawn_for(*PLACE, 0):
        raise KeyError("out of memory")
    torch.manual_seed(3)
    found = UtteranceDropout(0.3)(x_BTD, lengths_B)
    torch.manual_seed(3)
    assert torch.equal(found, nn.Dropout(0.3)(x_BTD))


@pytest.mark.parametrize("inside", [True, False])
def test_it_is_nothing_in_evaluation_and_where_the_chance_is_0(inside):
    x_BTD, lengths_B = ones(LENGTHS)
    for layer in (UtteranceDropout(0.5).eval(), UtteranceDropout(0.0)):
        if inside:
            with drawn_for(*PLACE, 0):
                assert torch.equal(layer(x_BTD, lengths_B), x_BTD)
        else:
            assert torch.equal(layer(x_BTD, lengths_B), x_BTD)


def test_it_has_no_parameters_and_its_input_stays_as_it_was():
    x_BTD, lengths_B = ones(LENGTHS)
    layer = UtteranceDropout(0.5)
    assert layer.state_dict() == {}
    with drawn_for(*PLACE, 0):
        layer(x_BTD, lengths_B)
    assert torch.equal(x_BTD, torch.ones_like(x_BTD))
