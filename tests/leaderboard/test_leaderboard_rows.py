"""A result is indexed as it says, and refused where it cannot be true."""

import json
from dataclasses import replace

import pytest

from superbench.contracts import Prediction, Score
from superbench.environment import environment
from superbench.errors import IntegrityError, NumericalError
from superbench.scoring import score_partitions
from superbench.version import __version__
from superbench_leaderboard.rows import plain_json, result_from_json


def test_row_says_what_the_result_says(make_result):
    row = result_from_json(make_result(2970, run_id="r", lr=None, seed=7).to_json())
    assert (row.run_id, row.seed, row.lr, row.metric, row.direction) == ("r", 7, None, "accuracy", "max")
    assert (row.value, row.n_items, row.data_sha, row.superbench) == (2970 / 3081, 3081, "d" * 64, __version__)
    assert row.departures == ("the data are not the official ones",)


def test_the_version_is_read_from_the_environment_a_run_writes(make_result):
    assert result_from_json(make_result(environment=environment("cpu")).to_json()).superbench == __version__
    for unknown in ({}, {"versions": {}}, {"versions": "1"}):
        assert result_from_json(make_result(environment=unknown).to_json()).superbench == ""


def test_a_cross_validation_counts_utterances_not_folds(make_result):
    said = [
        Prediction(id=str(number), reference="a", hypothesis="ab"[number % 2], partition=f"fold{number % 3}")
        for number in range(30)
    ]
    scores = score_partitions(said, ("accuracy",))
    assert scores[0].denominator == 3
    assert result_from_json(make_result(scores=scores).to_json()).n_items == 30
    uncounted = replace(scores[0], counts={"folds": 3})
    with pytest.raises(IntegrityError, match="mean over folds of None utterances"):
        result_from_json(make_result(scores=(uncounted,)).to_json())


def test_unknown_keys_are_left_alone_and_json_text_reads_the_same(make_result):
    data = make_result().to_json()
    assert result_from_json(json.loads(json.dumps(data | {"later": {"x": 1}}))) == result_from_json(data)


def test_the_first_schema_is_read_as_ever(make_result):
    data = make_result().to_json()
    first = {key: value for key, value in data.items() if key != "files"} | {"schema": 1}
    assert result_from_json(first) == result_from_json(data)


@pytest.mark.parametrize("schema", [0, 3, "1", None])
def test_other_schema_is_refused(make_result, schema):
    with pytest.raises(IntegrityError, match="schema"):
        result_from_json(make_result().to_json() | {"schema": schema})


@pytest.mark.parametrize("key", ["run_id", "group", "upstream_key", "scores", "lr", "layer_weights", "finished"])
def test_missing_key_is_named(make_result, key):
    data = make_result().to_json()
    del data[key]
    with pytest.raises(IntegrityError, match=key):
        result_from_json(data)


@pytest.mark.parametrize(("key", "value"), [("seed", "0"), ("seed", True), ("lr", "1e-3"), ("task", 3), ("data", [])])
def test_wrong_type_is_named(make_result, key, value):
    with pytest.raises(IntegrityError, match=key):
        result_from_json(make_result().to_json() | {key: value})


def test_missing_data_hash_is_named(make_result):
    with pytest.raises(IntegrityError, match=r"data\.sha"):
        result_from_json(make_result(data={"counts": {}}).to_json())


TRUE = Score(metric="accuracy", value=0.5, numerator=1, denominator=2, direction="max")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": "official"}, "official"),
        ({"scores": ()}, "scores are empty"),
        ({"scores": (replace(TRUE, value=0.5 + 1e-9),)}, r"scores\[0\] has value"),
        ({"scores": (TRUE, replace(TRUE, denominator=0))}, r"scores\[1\] has denominator 0"),
        ({"dev_scores": (replace(TRUE, denominator=-2),)}, r"dev_scores\[0\] has denominator -2"),
        ({"scores": (replace(TRUE, value=1.5, numerator=3),)}, "outside 0 to 1"),
        ({"scores": (replace(TRUE, direction="up"),)}, "neither min nor max"),
        ({"layer_weights": {"fold1": (0.5, 0.4)}}, r"layer_weights\['fold1'\] sums to 0\.9"),
        ({"layer_weights_norm_corrected": {"all": ()}}, "norm_corrected"),
        ({"layer_weights": {"all": ("a",)}}, "not a list of numbers"),
        ({"seed": 2**63}, "64 bits"),
    ],
)
def test_untrue_result_is_refused_by_name(make_result, changes, said):
    with pytest.raises(IntegrityError, match=said):
        result_from_json(make_result(**changes).to_json())


def test_every_untruth_is_said_at_once(make_result):
    with pytest.raises(IntegrityError, match=r"label.*sums to 0"):
        result_from_json(make_result(label="x", layer_weights={"all": (0.0,)}).to_json())


def test_wer_above_one_is_true(make_result):
    assert result_from_json(make_result(30, items=20, metric="wer", direction="min").to_json()).value == 1.5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_are_refused_wherever_they_stand(make_result, value):
    with pytest.raises(NumericalError, match=r"scores\[0\]\.value"):
        result_from_json(make_result(scores=(replace(TRUE, value=value),)).to_json())
    with pytest.raises(NumericalError, match=r"timings\.features"):
        result_from_json(make_result(timings={"features": value}).to_json())


def test_text_is_composed_and_unstorable_text_is_refused():
    assert plain_json({"e\u0301": ("e\u0301", "😀 שלום")}) == {"é": ["é", "😀 שלום"]}
    for text in ("a\0b", "\ud800", b"bytes"):
        with pytest.raises(IntegrityError, match="upstream"):
            plain_json({"upstream": text})


def test_comparable_key_tells_questions_apart_and_nothing_else(make_result):
    def key(**changes):
        return result_from_json(make_result(**changes).to_json()).comparable_key

    same = key()
    others = ({"upstream": "x"}, {"seed": 3}, {"lr": 1.0}, {"task_version": "1.9.9"}, {"hits": 1}, {"environment": {}})
    assert {key(**changes) for changes in others} == {same}
    different = [
        key(task="er"),
        key(task_version="2.0"),
        key(protocol_sha="c" * 64),
        key(data={"sha": "e" * 64}),
        key(metric="f1"),
        key(label="superb"),
    ]
    assert len({same, *different}) == 7
