"""Requests that make no sense are refused at once; labels and hashes of a plan are computed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from superbench.contracts import Corpus
from superbench.errors import ContractError, UsageError
from superbench.plan import RunPlan, RunRequest, departures, resolve_protocol
from superbench.plugin import TaskProtocol, TaskSpec

PROTOCOL = TaskProtocol(
    head="pooled_linear",
    objective="cross_entropy",
    metrics=("accuracy",),
    steps=1000,
    batch=4,
    accumulate=2,
    eval_every=100,
    clip=1.0,
    lr_grid=(1e-2, 1e-3),
)
TASK = TaskSpec(name="kind", version="1", protocol=PROTOCOL, column="label", labels=lambda *_: None)
REQUEST = RunRequest(upstream="fbank", task=("kind",))
OFFICIAL = Corpus(task="kind", utterances=(), official=True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"eval_every": -1}, "eval_every must be at least 1, got -1"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"lr": (0.0,)}, "lr must be positive"),
        ({"lr": (float("nan"),)}, "lr must be positive"),
        ({"lr": (0.1, 0.1)}, "lr are given twice"),
        ({"seeds": ()}, "seeds must name at least one"),
        ({"seeds": (-1,)}, "seeds must be from 0"),
        ({"seeds": (1, 1)}, "seeds are given twice"),
        ({"task": ()}, "task must name at least one"),
        ({"layers": -1}, "layers must not be negative"),
        ({"corpus": ("a",), "data": ("b",)}, "either corpus or data"),
        ({"corpus": ("a", "b")}, "one corpus root serves all"),
    ],
)
def test_requests_that_make_no_sense(given, words):
    with pytest.raises(UsageError, match=words):
        replace(REQUEST, **given)


def test_everything_wrong_with_a_request_is_said():
    with pytest.raises(UsageError) as caught:
        replace(REQUEST, steps=0, lr=(-1.0,), seeds=(-1,))
    assert [word in caught.value.message for word in ("steps", "lr", "seeds")] == [True] * 3


def test_the_root_of_one_task_wins_over_the_root_of_all():
    request = replace(REQUEST, corpus=("ks=/mine", "a/b=c"))
    assert (request.corpus_root("ks"), request.corpus_root("er")) == ("/mine", "a/b=c")
    assert request.named_tasks == ("ks",)
    assert replace(REQUEST, corpus=("ks=/mine",)).corpus_root("er") == ""


def test_an_untouched_official_run_departs_in_nothing_but_the_missing_check():
    protocol = resolve_protocol(TASK, REQUEST)
    assert protocol == replace(PROTOCOL, lr_grid=(1e-3, 1e-2))
    reasons = departures(TASK, protocol, "pooled_linear", REQUEST, OFFICIAL)
    assert all("official counts" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        ({"official": False}, "data: CSV manifests"),
        ({"resampler": "soxr 1 HQ 8000->16000"}, "resampled: soxr 1 HQ 8000->16000"),
        ({"official": False, "left_out": 3}, "3 rows without a label left out"),
    ],
)
def test_what_the_data_depart_in(corpus, words):
    protocol = resolve_protocol(TASK, REQUEST)
    reasons = departures(TASK, protocol, "pooled_linear", REQUEST, replace(OFFICIAL, **corpus))
    assert any(words in reason for reason in reasons)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metrics": ("acuracy",)}, "did you mean 'accuracy'"),
        ({"metrics": ()}, "no metric"),
        ({"optimizer": "sgd"}, "there is 'adam'"),
        ({"objective": "mse"}, "objective 'mse'"),
    ],
)
def test_a_protocol_that_cannot_be_run(change, words):
    with pytest.raises(ContractError) as caught:
        resolve_protocol(replace(TASK, protocol=replace(PROTOCOL, **change)), REQUEST)
    assert words in str(caught.value)


def test_the_hashes_of_a_plan_say_what_they_are_of():
    plan = RunPlan(
        task="kind",
        task_version="1",
        protocol=PROTOCOL,
        upstream="mine:checkpoint=/here",
        upstream_key="k",
        corpus_sha="c",
        official=False,
        head="pooled_linear",
        form="pooled",
        layers=None,
        seeds=(0,),
        limit=None,
        device="cpu",
        score_train=False,
        division="d",
        scorer="s",
        code="c0de",
        departures=(),
    )
    assert (plan.label, replace(plan, departures=("data",)).label) == ("superb", "custom")
    assert replace(plan, upstream="mine:checkpoint=/there").fingerprint == plan.fingerprint
    for change in ({"upstream_key": "l"}, {"corpus_sha": "d"}, {"seeds": (1,)}, {"layers": 0}, {"code": "x"}):
        assert replace(plan, **change).fingerprint != plan.fingerprint
    for change in ({"upstream_key": "l"}, {"corpus_sha": "d"}, {"seeds": (1,)}, {"upstream": "x"}, {"device": "cuda"}):
        assert replace(plan, **change).protocol_sha == plan.protocol_sha
    for change in (
        {"task": "x"},
        {"task_version": "2"},
        {"head": "x"},
        {"form": "frames"},
        {"division": "x"},
        {"scorer": "x"},
    ):
        assert replace(plan, **change).protocol_sha != plan.protocol_sha
    for constant in ("steps", "batch", "accumulate", "eval_every", "clip", "sample_rate"):
        changed = replace(PROTOCOL, **{constant: getattr(PROTOCOL, constant) + 1})
        assert replace(plan, protocol=changed).protocol_sha != plan.protocol_sha
