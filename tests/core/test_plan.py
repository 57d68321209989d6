"""Requests that make no sense are refused at once; labels and hashes of a plan are computed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, make_dataclass, replace
from pathlib import Path

import pytest

from superbench.contracts import Corpus, Crop, PartSize, Provenance, Utterance
from superbench.errors import ContractError, UsageError
from superbench.plan import RunPlan, RunRequest, departures, resolve_protocol
from superbench.plugin import SpecAugment, TaskProtocol, TaskSpec
from superbench.protocol import check_protocol
from superbench.registry import Registered

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
    sizes=(PartSize(part="train", utterances=2, speakers=1), PartSize(part="test", utterances=1)),
    family="superb",
)
TASK = TaskSpec(name="kind", version="1", protocol=PROTOCOL, column="label", labels=lambda *_: None)
OURS = Provenance(plugin="superbench_tasks", distribution="superbench", version="1.0")
REQUEST = RunRequest(upstream="fbank", task=("kind",))


def utterance(id_, split, **changes):
    facts = {"path": Path("/x"), "start": 0, "stop": 1, "native_rate": 1, "samples": 1, "rate": 1, "content": id_}
    return Utterance(
        **{**facts, "id": id_, "split": split, "fold": "", "speaker": "s", "labels": {}, "reference": "a", **changes}
    )


OFFICIAL = Corpus(  # a bank of crops and a whole recording in train: two recordings
    task="kind",
    official=True,
    utterances=(
        *(utterance(f"a#00{k}", "train", bank="a") for k in range(3)),
        utterance("b", "train"),
        utterance("c", "test"),
    ),
)


def reasons(task=TASK, *, request=REQUEST, corpus=OFFICIAL, head="pooled_linear", options=None, provenance=OURS):
    protocol = resolve_protocol(task, request)
    registered = Registered(spec=task, provenance=provenance)
    return departures(registered, request, corpus, protocol=protocol, head=head, options=options)


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


def test_an_untouched_official_run_of_the_whole_corpus_departs_in_nothing():
    assert resolve_protocol(TASK, REQUEST) == replace(PROTOCOL, lr_grid=(1e-3, 1e-2))
    assert reasons() == ()
    assert reasons(replace(TASK, deviations=lambda options: ())) == ()
    assert reasons(corpus=replace(OFFICIAL, left_out=3)) == ()  # rows that the official reader leaves out belong there


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        ({"official": False}, "data: CSV manifests in place of the official corpus"),
        ({"resampler": "soxr 1 HQ 8000->16000"}, "resampled: soxr 1 HQ 8000->16000"),
        (
            {"utterances": OFFICIAL.utterances[3:]},
            "official corpus partial: train has 1 recordings, officially 2",
        ),
        (
            {"utterances": (*OFFICIAL.utterances, utterance("d", "test"))},
            "official corpus wrong: test has 2 recordings, officially 1",
        ),
        (
            {"utterances": (*OFFICIAL.utterances[:3], utterance("b", "train", speaker="t"), OFFICIAL.utterances[4])},
            "official corpus wrong: train has 2 speakers, officially 1",
        ),
    ],
)
def test_what_the_data_depart_in(corpus, words):
    assert reasons(corpus=replace(OFFICIAL, **corpus)) == (words,)


def test_rows_of_a_manifest_that_are_left_out_are_said():
    manifest = replace(OFFICIAL, official=False, left_out=3)
    assert "3 rows without a label left out" in reasons(corpus=manifest)


def test_a_corpus_whose_size_nobody_states_is_not_taken_on_trust():
    unsized = replace(TASK, protocol=replace(PROTOCOL, sizes=()))
    assert reasons(unsized) == ("the task states no official sizes (protocol.sizes) to vet the corpus by",)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"steps": 1}, ("steps: 1 in place of 1000", "evaluation interval: 1 in place of 100")),
        ({"eval_every": 50}, ("evaluation interval: 50 in place of 100",)),
        ({"lr": (1e-2,)}, ("learning-rate grid: (0.01,) in place of (0.001, 0.01)",)),
        ({"lr": (1e-3, 1e-2)}, ()),  # the protocol's own, in another order
        ({"label_column": "mood"}, ("labels from the column 'mood'",)),
        ({"limit": 9}, ("limited to 9 utterances per split",)),
        ({"layers": 0}, ("layer 0 alone in place of the weighted sum",)),
        ({"seeds": (3, 4)}, ()),
    ],
)
def test_what_a_request_departs_in(given, words):
    assert reasons(request=replace(REQUEST, **given)) == words


def test_another_head_another_task_and_another_protocol_are_none_of_superbs():
    assert reasons(head="pooled_linear:projector=8") == ("head: pooled_linear:projector=8 in place of pooled_linear",)
    stranger = Provenance(plugin="mine", distribution="superbench-mine", version="2")
    said = "task kind of mine (superbench-mine 2) is none of SUPERB's"
    assert reasons(provenance=stranger) == (said,)
    assert reasons(provenance=Provenance(plugin="x", file="/x.py")) == ("task kind of x (/x.py) is none of SUPERB's",)
    other = replace(TASK, protocol=replace(PROTOCOL, family="superb-sg"))
    assert reasons(other) == (f"task kind of {OURS} is none of SUPERB's",)


def test_a_task_says_what_of_its_options_departs():
    task = replace(TASK, deviations=lambda options: (f"lexicon: {options}", "and another"))
    assert reasons(task, options="mine") == ("lexicon: mine", "and another")
    manifest = replace(OFFICIAL, official=False)
    assert reasons(task, options="mine", corpus=manifest) == reasons(corpus=manifest)  # the data depart already


def test_options_of_a_run_fill_those_of_the_tasks_that_have_them():
    request = replace(REQUEST, lexicon=("/all", "asr=/a", "asr=/b"), lm="/lm", meta="/meta")
    some = make_dataclass("Some", [("lexicon", tuple, ()), ("lm", str, "")])
    none = make_dataclass("Empty", [])
    assert request.task_options(replace(TASK, name="asr", options=some)) == {"lexicon": ("/a", "/b"), "lm": "/lm"}
    assert request.task_options(replace(TASK, name="pr", options=some)) == {"lexicon": ("/all",), "lm": "/lm"}
    assert request.task_options(replace(TASK, name="er", options=make_dataclass("Er", [("meta", str, "")]))) == {
        "meta": "/meta"
    }
    assert request.task_options(replace(TASK, options=none)) == REQUEST.task_options(replace(TASK, options=some)) == {}
    assert request.named_tasks == ("asr", "asr")


# Another value of every constant that a protocol has.
OTHERWISE = {
    "head": "x",
    "objective": "ctc",
    "metrics": ("uar",),
    "steps": 1001,
    "batch": 5,
    "accumulate": 3,
    "eval_every": 101,
    "clip": 2.0,
    "lr_grid": (1e-2,),
    "optimizer": "sgd",
    "schedule": "linear",
    "selection": "last",
    "sample_rate": 8000,
    "gain_db": -3.0,
    "sampling": "balanced",
    "halve_above": 18.75,
    "dev_sampling": "balanced",
    "dev_seed": 1,
    "must_beat": 0.5,
    "augment": SpecAugment(time_warp=5, frequency_masks=4, frequency_width=50, time_masks=2, time_width=40),
    "sizes": (),
    "family": "",
    "source": "elsewhere",
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metrics": ("acuracy",)}, "did you mean 'accuracy'"),
        ({"metrics": ()}, "no metric"),
        ({"optimizer": "sgd"}, "optimizer 'sgd': there is: adam"),
        ({"objective": "mse"}, "objective 'mse'"),
        ({"sampling": "ballanced"}, "sampling 'ballanced': did you mean 'balanced'"),
        ({"dev_sampling": "al"}, "dev_sampling 'al': did you mean 'all'"),
        ({"schedule": "linear"}, "schedule 'linear'"),
        ({"selection": "last"}, "selection 'last'"),
        ({"objective": "ctc", "sampling": "balanced"}, "CTC has none"),
        ({"objective": "ctc", "dev_sampling": "balanced"}, "CTC has none"),
        ({"augment": OTHERWISE["augment"]}, "augment masks frames"),
        ({"augment": 5}, "augment is 5: a SpecAugment"),
        ({"metrics": ("wer",)}, "metric 'wer' is not for objective 'cross_entropy'"),
        ({"metrics": "accuracy"}, "metrics are 'accuracy': a tuple"),
        ({"gain_db": "loud"}, "gain_db is 'loud': a finite number"),
        ({"gain_db": float("nan")}, "gain_db is nan: a finite number"),
        ({"gain_db": 400.0}, "gain_db is 400.0: at most 60"),
        ({"lr_grid": "0.1"}, "lr_grid is '0.1': a tuple of numbers"),
        ({"steps": 2.5}, "steps is 2.5: a whole number"),
        ({"must_beat": float("inf")}, "must_beat is inf: a finite number"),
        ({"halve_above": -1.0, "sampling": "label_windows"}, "halve_above is -1.0"),
        ({"halve_above": 18.75}, "label_windows alone"),
    ],
)
def test_a_protocol_that_cannot_be_run(change, words):
    with pytest.raises(ContractError) as caught:
        check_protocol(replace(TASK, protocol=replace(PROTOCOL, **change)))
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
        dtype="float32",
        precision="float32",
        streamed=False,
        micro_batch=8,
        layers=None,
        seeds=(0,),
        limit=None,
        device="cpu",
        score_train=False,
        division="d",
        scorer="s",
        code="c0de",
        decoder="",
        departures=(),
    )
    assert (plan.label, replace(plan, departures=("data",)).label) == ("superb", "custom")
    assert replace(plan, upstream="mine:checkpoint=/there").fingerprint == plan.fingerprint
    for change in (
        {"upstream_key": "l"},
        {"corpus_sha": "d"},
        {"seeds": (1,)},
        {"layers": 0},
        {"code": "x"},
        {"decoder": "x"},
        {"dtype": "int8"},
        {"precision": "bfloat16"},
        {"streamed": True},
        {"micro_batch": 4},
    ):
        assert replace(plan, **change).fingerprint != plan.fingerprint
    for change in ({"decoder": "x"}, {"seeds": (1,)}, {"score_train": True}, {"departures": ("x",)}):
        assert replace(plan, **change).training == plan.training  # candidates are shared
        assert replace(plan, **change).fingerprint != plan.fingerprint
    assert replace(plan, protocol=replace(PROTOCOL, lr_grid=(1.0,))).training == plan.training
    for change in (
        {"upstream_key": "l"},
        {"corpus_sha": "d"},
        {"code": "x"},
        {"head": "x"},
        {"layers": 0},
        {"scorer": "x"},  # which step was best on dev is kept with a candidate
    ):
        assert replace(plan, **change).training != plan.training
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
    shas = {plan.protocol_sha}
    for constant, value in OTHERWISE.items():
        changed = replace(plan, protocol=replace(PROTOCOL, **{constant: value}))
        assert changed.fingerprint != plan.fingerprint
        shas.add(changed.protocol_sha)
    assert len(shas) == len(OTHERWISE) + 1
    assert set(OTHERWISE) == {f.name for f in fields(TaskProtocol)}  # a new constant is tried, too


@dataclass(frozen=True, kw_only=True)
class OwnProtocol(TaskProtocol):
    crop: Crop


def test_what_a_task_adds_to_its_protocol_is_part_of_the_hash():
    plan = RunPlan(**{**{f.name: "" for f in fields(RunPlan)}, "protocol": PROTOCOL})
    own = replace(plan, protocol=OwnProtocol(**vars(PROTOCOL), crop=Crop(seconds=8.0, bank=4)))
    shorter = replace(own, protocol=replace(own.protocol, crop=Crop(seconds=7.0, bank=4)))
    assert (
        len({p.protocol_sha for p in (plan, own, shorter)}) == len({p.fingerprint for p in (plan, own, shorter)}) == 3
    )
    assert resolve_protocol(replace(TASK, protocol=own.protocol), REQUEST).crop == own.protocol.crop
    assert own.to_json()["protocol"]["crop"] == asdict(own.protocol.crop)
