"""Metrics with their counts, means over folds, and that a score is of everything or of nothing."""

from __future__ import annotations

import pytest

from superbench import scoring
from superbench.contracts import Prediction
from superbench.errors import DataError, IntegrityError
from superbench.metrics import DIRECTIONS, METRICS


def said(*pairs, partition="all"):
    return [
        Prediction(id=f"u{i}", reference=ref, hypothesis=hyp, partition=partition) for i, (ref, hyp) in enumerate(pairs)
    ]


# references and hypotheses; metric; numerator, denominator, counts: worked out by hand
BY_HAND = [
    ([("a", "a"), ("b", "a"), ("c", "c")], "accuracy", 2, 3, {"hits": 2, "utterances": 3}),
    ([("A B C", "A B C"), ("D E", "D")], "wer", 1, 5, {"hits": 4, "deletions": 1, "empty_hypotheses": 0}),
    ([("A B", "A X B Y")], "wer", 2, 2, {"insertions": 2, "hits": 2}),
    ([("A", "B C D")], "wer", 3, 1, {"substitutions": 1, "insertions": 2}),
    ([("A B", ""), ("C", " ")], "wer", 3, 3, {"deletions": 3, "empty_hypotheses": 2}),
    ([("A B", "AB")], "cer", 1, 3, {"deletions": 1, "hits": 2}),
    ([("AH0 B", "AH1 B")], "per", 1, 2, {"substitutions": 1, "hits": 1}),
]


@pytest.mark.parametrize(("pairs", "metric", "numerator", "denominator", "counts"), BY_HAND)
def test_metrics_by_hand(pairs, metric, numerator, denominator, counts):
    found = METRICS[metric](said(*pairs))
    assert (found.numerator, found.denominator, found.value) == (numerator, denominator, numerator / denominator)
    assert {k: found.counts[k] for k in counts} == counts
    assert (found.metric, found.direction) == (metric, DIRECTIONS[metric])


def test_an_error_rate_is_over_the_whole_corpus_not_a_mean_of_utterances():
    found = METRICS["wer"](said(("A", "B"), ("A B C D E F G H I", "A B C D E F G H I")))
    assert found.value == 0.1


@pytest.mark.parametrize("metric", ["wer", "cer", "per"])
def test_references_that_are_all_empty_have_no_error_rate(metric):
    with pytest.raises(DataError, match="all references are empty"):
        METRICS[metric](said(("", "A"), ("", "")))


def test_every_metric_has_a_direction():
    assert set(METRICS) == set(DIRECTIONS)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (["a", "b"], "1 missing ['c']"),
        (["a", "b", "c", "d"], "1 unexpected ['d']"),
        (["a", "b", "c", "c"], "1 repeated"),
        ([], "3 missing"),
    ],
)
def test_predictions_are_complete_or_refused(ids, words):
    predictions = [Prediction(id=i, reference="x", hypothesis="x") for i in ids]
    with pytest.raises(IntegrityError) as caught:
        scoring.complete(predictions, ["a", "b", "c"])
    assert words in str(caught.value)


def test_complete_predictions_pass_in_any_order():
    scoring.complete([Prediction(id=i, reference="x", hypothesis="x") for i in "cab"], ["a", "b", "c"])


def test_folds_are_averaged_and_the_pooled_score_stands_beside():
    predictions = [
        *said(("a", "a"), ("b", "b"), partition="fold1"),
        *said(("a", "b"), ("b", "b"), ("a", "a"), ("a", "b"), partition="fold2"),
    ]
    mean, pooled = scoring.score_partitions(predictions, ("accuracy",))
    assert (mean.metric, mean.value, mean.numerator, mean.denominator, mean.counts["folds"]) == (
        "accuracy",
        0.75,
        1.5,
        2,
        2,
    )
    assert (pooled.metric, pooled.numerator, pooled.denominator) == ("accuracy_pooled", 4, 6)
    assert scoring.by_partition(predictions, "accuracy") == {"fold1": 1.0, "fold2": 0.5}


def test_one_partition_gives_each_metric_once_in_order():
    found = scoring.score_partitions(said(("A B", "A")), ("wer", "cer"))
    assert [s.metric for s in found] == ["wer", "cer"]
    assert scoring.by_partition(said(("A", "A")), "wer") == {}
