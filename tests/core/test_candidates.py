"""Candidates that train together get what each would get alone, and what plain torch gives; none disturbs another."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_heads import CLASSES, KINDS, LAYERS, WIDTH, InMemory, assert_same_steps, plain_logits, train, train_plainly
from torch.utils.flop_counter import FlopCounterMode

from superbench.features.weighted_sum import Probe
from superbench.plugin import SpecAugment
from superbench.sampling import Pool, sampler
from superbench.training.batches import Order
from superbench.training.candidates import Candidates
from superbench_downstreams.linear import LinearHead

LRS = (0.01, 0.003, 0.05)
BATCHES = {
    "one": [[0, 1, 2, 3, 4]],
    "accumulated, of one size": [[0, 1], [2, 3], [4, 5]],
    "accumulated, unequal": [[0, 1, 2, 3], [4]],
}
CLIPS = {"unclipped": 1e9, "clipped": 0.02}
EXACT = {"rtol": 0, "atol": 1e-12}
SAMPLINGS = ("shuffled", "balanced", "length_buckets", "label_windows")
AUGMENT = SpecAugment(time_warp=1, frequency_masks=1, frequency_width=3, time_masks=1, time_width=3)


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def candidates_of(kind, lrs=LRS):
    """Different models for every candidate, and its learning rate and lane."""
    rates = [*lrs] * kind.lanes
    return [kind.build(seed=n) for n in range(len(rates))], rates, [n // len(lrs) for n in range(len(rates))]


def bits(tensor):
    return tensor.detach().numpy().tobytes()


def adam_of(candidates, number):
    """Moments and count of steps of every parameter of a candidate, to the bit."""
    state = candidates.optimizer.state
    return [{k: bits(v) for k, v in state[p].items()} for p in candidates.models[number].parameters()]


@pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
@pytest.mark.parametrize("batches", BATCHES.values(), ids=BATCHES)
def test_together_is_each_alone_is_plain_torch(kind, batches, clip):
    facts = {"steps": 3, "clip": clip}
    orders = kind.orders(batches)
    models, lrs, lanes = candidates_of(kind)
    _, together = train(kind, models, lrs, orders, size=2, **facts)
    for number, (lr, lane) in enumerate(zip(lrs, lanes, strict=True)):
        _, (alone,) = train(kind, [kind.build(seed=number)], [lr], [orders[lane]], size=2, **facts)
        plainly = train_plainly(kind, kind.build(seed=number), lr, orders[lane], **facts)
        assert all((step.norm > clip) == (clip < 1) for step in plainly)
        assert_same_steps(together[number], alone)
        assert_same_steps(together[number], plainly)


def test_what_each_says_is_what_it_says_alone_and_plainly(kind):
    models, lrs, _ = candidates_of(kind)
    examples = InMemory(kind)
    x, lengths = examples.batch(range(8))
    candidates = Candidates(models, lrs, lanes=kind.lanes, precision="float64")
    candidates.train(False)
    with torch.no_grad():
        together = [logits for lane in range(kind.lanes) for logits in candidates.logits(lane, x, lengths)]
        assert len(together) == len(models)
        for number, logits in enumerate(together):
            fresh = kind.build(seed=number)
            torch.testing.assert_close(logits, fresh.eval()(x, lengths), **EXACT)
            weights = dict(fresh.named_parameters())
            for row, i in enumerate(range(8)):
                said = logits[row] if kind.pooled else logits[row, : examples.lengths[i]]
                torch.testing.assert_close(said, plain_logits(kind, weights, examples.features[i]), **EXACT)


@pytest.mark.parametrize("merged", [False, True], ids=["one after the other", "merged"])
@pytest.mark.parametrize("candidates", [1, 5])
def test_the_linear_head_takes_the_form_with_fewer_products_and_both_say_the_same(merged, candidates):
    rows, width, projector, classes = 6, 7, 4, (2 if merged else 9)
    torch.manual_seed(0)
    head = LinearHead(width, classes, projector=projector).double()
    parameters = {n: torch.randn(candidates, *p.shape, dtype=torch.float64) for n, p in head.named_parameters()}
    x = torch.randn(candidates, rows, width, dtype=torch.float64)
    with FlopCounterMode(display=False) as counter:
        found = head.together(parameters, x)
    with FlopCounterMode(display=False) as of_frames:
        torch.testing.assert_close(
            head.together(parameters, x.view(candidates, 2, 3, width)).flatten(1, 2), found, **EXACT
        )
    one_after_the_other = rows * projector * (width + classes)
    product_first = classes * width * (projector + rows)
    chosen = product_first if merged else one_after_the_other
    assert counter.get_total_flops() == 2 * candidates * chosen
    assert of_frames.get_total_flops() == 2 * candidates * one_after_the_other
    assert chosen == min(product_first, one_after_the_other)
    for c in range(candidates):
        own = {n: p[c] for n, p in parameters.items()}
        hidden = x[c] @ own["projector.weight"].T + own["projector.bias"]
        torch.testing.assert_close(found[c], hidden @ own["linear.weight"].T + own["linear.bias"], **EXACT)
        both = own["linear.weight"] @ own["projector.weight"]
        bias = own["linear.weight"] @ own["projector.bias"] + own["linear.bias"]
        torch.testing.assert_close(found[c], x[c] @ both.T + bias, **EXACT)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_size_of_the_micro_batch_changes_no_gradient(kind, sampling):
    """Not with dropout, not with SpecAugment, not with the short batches of some ways of sampling."""
    batch = 3 if kind.lanes == 1 else 4  # of lanes that train together every effective batch has the same size
    protocol = replace(
        kind.protocol,
        batch=batch,
        accumulate=2,
        sampling=sampling,
        halve_above=5.5 if kind.lanes == 1 else None,
        augment=None if kind.pooled else AUGMENT,
    )
    seconds = tuple(float(n) for n in InMemory(KINDS["frames"]).lengths)
    classes = tuple((i % 2,) for i in range(8))
    targets = tuple((0,) * int(n) for n in seconds) if sampling == "label_windows" else classes
    pool = Pool(items=tuple((i,) for i in range(8)), seconds=seconds, targets=targets)
    orders = [Order(seed=lane, batches=sampler(protocol, pool, lane)) for lane in range(kind.lanes)]
    drawn = {tuple(len(b) for b in orders[0].batches(step)) for step in range(3)}
    short = {"label_windows": 1, "length_buckets": 2}.get(sampling, batch) if kind.lanes == 1 else batch
    assert min(min(sizes) for sizes in drawn) == short
    _, lrs, _ = candidates_of(kind, LRS[:2])
    for step in range(3):

        def gradients(size, step=step, protocol=protocol):
            fresh, _, _ = candidates_of(kind, LRS[:2])
            _, found = train(kind, fresh, lrs, orders, steps=1, first=step, size=size, clip=1e9, protocol=protocol)
            return found

        whole = gradients(2 * batch)
        for size in range(1, 2 * batch):
            for one, other in zip(gradients(size), whole, strict=True):
                assert one[0].loss == pytest.approx(other[0].loss, rel=0, abs=1e-12)
                for name, gradient in one[0].gradients.items():
                    torch.testing.assert_close(gradient, other[0].gradients[name], **EXACT)
    if protocol.augment:
        plain = gradients(2 * batch, protocol=replace(protocol, augment=None))
        changed = [steps[0].gradients["head.linear.weight"] for steps in (plain[0], whole[0])]
        assert not torch.allclose(*changed)


@pytest.mark.parametrize("filling", [math.nan, math.inf, 1e200], ids=["nan", "infinite", "a norm without bounds"])
def test_a_gradient_that_is_not_finite_is_not_applied_and_disturbs_nobody(kind, filling):
    orders = kind.orders(BATCHES["accumulated, unequal"])
    models, lrs, _ = candidates_of(kind)
    healthy, _, _ = candidates_of(kind)
    sick = len(models) // 2
    undisturbed, _ = train(kind, healthy, lrs, orders, steps=1, size=2)
    candidates, _ = train(kind, models, lrs, orders, steps=1, size=2)
    kept = [p.detach().clone() for p in models[sick].parameters()]
    with torch.no_grad():
        models[sick].head.linear.weight.mul_(filling)
    broken = [bits(p) for p in models[sick].parameters()]
    moments = adam_of(candidates, sick)
    _, expected = train(kind, healthy, lrs, orders, steps=1, size=2, first=1, candidates=undisturbed)
    _, found = train(kind, models, lrs, orders, steps=1, size=2, first=1, candidates=candidates)
    assert [math.isfinite(steps[0].norm) for steps in found] == [n != sick for n in range(len(models))]
    assert [bits(p) for p in models[sick].parameters()] == broken
    assert adam_of(candidates, sick) == moments
    for n in set(range(len(models))) - {sick}:
        assert (found[n][0].loss, found[n][0].norm) == (expected[n][0].loss, expected[n][0].norm)
        for ours, theirs in zip(models[n].parameters(), healthy[n].parameters(), strict=True):
            assert bits(ours) == bits(theirs)
            assert bits(ours.grad) == bits(theirs.grad)
    with torch.no_grad():  # mended, it goes on as if that step had not been
        for parameter, value in zip(models[sick].parameters(), kept, strict=True):
            parameter.copy_(value)
    _, after = train(kind, models, lrs, orders, steps=1, size=2, first=2, candidates=candidates)
    skipping, _, _ = candidates_of(kind)
    other, _ = train(kind, skipping, lrs, orders, steps=1, size=2)
    _, without = train(kind, skipping, lrs, orders, steps=1, size=2, first=2, candidates=other)
    assert_same_steps(after[sick], without[sick], atol=0)


def test_a_model_is_a_view_of_what_all_are_trained_in(kind):
    models, lrs, _ = candidates_of(kind)
    x, lengths = InMemory(kind).batch(range(4))
    candidates = Candidates(models, lrs, lanes=kind.lanes, precision="float64")
    candidates.train(False)
    for name, parameter in models[0].named_parameters():
        storages = {m.get_parameter(name).untyped_storage().data_ptr() for m in models}
        if models[0].together is None:
            assert len(storages) == len(models)
        else:
            assert len(storages) == 1
            assert parameter.untyped_storage().nbytes() == len(models) * parameter.nbytes

    def says():
        with torch.no_grad():
            return [one for lane in range(kind.lanes) for one in candidates.logits(lane, x, lengths)]

    before = says()
    models[1].load_state_dict(kind.build(seed=99).state_dict())
    after = says()
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [n != 1 for n in range(len(models))]
    with torch.no_grad():
        torch.testing.assert_close(after[1], models[1](x, lengths), **EXACT)


def test_saved_weights_are_as_many_as_there_are():
    models = [Probe(2, LinearHead(300, 10, projector=20)) for _ in range(5)]
    one = sum(p.nbytes for p in models[0].parameters())
    Candidates(models, LRS[:1] * 5)
    buffer = io.BytesIO()
    torch.save([m.state_dict() for m in models], buffer)
    assert 5 * one < buffer.tell() < 5.5 * one


def test_the_head_of_the_readme_trains_together_as_alone():
    text = (Path(__file__).parents[2] / "downstreams/README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(class .*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    defined = {"torch": torch}
    exec(code, defined)
    kind = KINDS["pooled"]

    def built():
        torch.manual_seed(3)
        return [Probe(LAYERS, defined["Single"](WIDTH, CLASSES)).double() for _ in LRS]

    with torch.random.fork_rng(devices=[]):
        models, singles = built(), built()
    facts = {"orders": kind.orders(BATCHES["accumulated, unequal"]), "steps": 3, "size": 2}
    _, together = train(kind, models, LRS, **facts)
    for number, lr in enumerate(LRS):
        _, (alone,) = train(kind, [singles[number]], [lr], **facts)
        assert_same_steps(together[number], alone)
