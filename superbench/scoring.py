"""Stage 4: predictions to scores. Complete or nothing: every expected utterance once, and no other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from superbench.contracts import Prediction, Score
from superbench.errors import IntegrityError
from superbench.metrics import METRICS


def complete(predictions: Sequence[Prediction], expected: Iterable[str]) -> None:
    """Refuse a set of predictions that is not exactly one per expected utterance."""
    ids = [p.id for p in predictions]
    wanted = set(expected)
    missing, extra = sorted(wanted - set(ids)), sorted(set(ids) - wanted)
    if missing or extra or len(ids) != len(set(ids)):
        raise IntegrityError(
            f"predictions are not complete: {len(missing)} missing {missing[:5]}, {len(extra)} unexpected {extra[:5]}, "
            f"{len(ids) - len(set(ids))} repeated",
            "this is a fault of superbench: please report it",
        )


def score(predictions: Sequence[Prediction], metrics: Sequence[str]) -> tuple[Score, ...]:
    """Scores of one set of predictions, in the order of `metrics`."""
    return tuple(METRICS[m](predictions) for m in metrics)


def score_partitions(predictions: Sequence[Prediction], metrics: Sequence[str]) -> tuple[Score, ...]:
    """Scores of a cross-validation: each metric's mean over the partitions, and beside it the pooled one.

    SUPERB's ER score is the mean of the folds' accuracies; its numerator here is their sum, its denominator the number
    of folds. The pooled score counts every utterance alike. With one partition the two are the same, and given once.
    """
    names = sorted({p.partition for p in predictions})
    if len(names) == 1:
        return score(predictions, metrics)
    found = []
    for metric in metrics:
        folds = [METRICS[metric]([p for p in predictions if p.partition == name]) for name in names]
        pooled = METRICS[metric](predictions)
        total = sum(f.value for f in folds)
        found.append(
            Score(
                metric=metric,
                value=total / len(folds),
                numerator=total,
                denominator=len(folds),
                direction=pooled.direction,
                counts={**pooled.counts, "folds": len(folds)},
            )
        )
        found.append(
            Score(
                metric=f"{metric}_pooled",
                value=pooled.value,
                numerator=pooled.numerator,
                denominator=pooled.denominator,
                direction=pooled.direction,
                counts=pooled.counts,
            )
        )
    return tuple(found)


def by_partition(predictions: Sequence[Prediction], metric: str) -> dict[str, float]:
    """The metric's value on every partition of a cross-validation; empty where there is only one."""
    names = sorted({p.partition for p in predictions})
    if len(names) == 1:
        return {}
    return {name: METRICS[metric]([p for p in predictions if p.partition == name]).value for name in names}
