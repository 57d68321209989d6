"""Metrics: references and hypotheses in, one score with its counts out. All are fractions of their denominators.

`wer` counts words, `cer` characters (spaces among them), `per` phones with their stress, each over the whole corpus:
(substitutions + deletions + insertions) / reference units, by jiwer. `accuracy` counts utterances.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from superbench.contracts import Prediction, Score
from superbench.errors import DataError


def accuracy(predictions: Sequence[Prediction]) -> Score:
    """Share of utterances whose class is right."""
    hits = sum(p.reference == p.hypothesis for p in predictions)
    return Score(
        metric="accuracy",
        value=hits / len(predictions),
        numerator=hits,
        denominator=len(predictions),
        direction="max",
        counts={"hits": hits, "utterances": len(predictions)},
    )


def _error_rate(metric: str, predictions: Sequence[Prediction], characters: bool) -> Score:
    import jiwer

    process = jiwer.process_characters if characters else jiwer.process_words
    out = process([p.reference for p in predictions], [p.hypothesis for p in predictions])
    errors = out.substitutions + out.deletions + out.insertions
    total = out.hits + out.substitutions + out.deletions
    if total == 0:
        raise DataError(f"{metric} is not defined: all references are empty", "give transcripts to the test split")
    return Score(
        metric=metric,
        value=errors / total,
        numerator=errors,
        denominator=total,
        direction="min",
        counts={
            "hits": out.hits,
            "substitutions": out.substitutions,
            "deletions": out.deletions,
            "insertions": out.insertions,
            "utterances": len(predictions),
            "empty_hypotheses": sum(not p.hypothesis.strip() for p in predictions),
        },
    )


def word_error_rate(predictions: Sequence[Prediction]) -> Score:
    """Word errors over reference words."""
    return _error_rate("wer", predictions, characters=False)


def character_error_rate(predictions: Sequence[Prediction]) -> Score:
    """Character errors over reference characters; the space between two words is a character."""
    return _error_rate("cer", predictions, characters=True)


def phone_error_rate(predictions: Sequence[Prediction]) -> Score:
    """Phone errors over reference phones; stress marks count, phones are separated by spaces."""
    return _error_rate("per", predictions, characters=False)


METRICS: Mapping[str, Callable[[Sequence[Prediction]], Score]] = MappingProxyType(
    {"accuracy": accuracy, "wer": word_error_rate, "cer": character_error_rate, "per": phone_error_rate}
)
DIRECTIONS: Mapping[str, Literal["min", "max"]] = MappingProxyType(
    {"accuracy": "max", "wer": "min", "cer": "min", "per": "min"}
)
