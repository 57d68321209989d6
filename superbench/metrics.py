"""Metrics: references and hypotheses in, one score with its counts out. All are fractions of their denominators.

`wer` counts words, `cer` characters (spaces among them), `per` phones with their stress, `uer` the symbols of the CTC
vocabulary, each over the whole corpus: (substitutions + deletions + insertions) / reference units, by jiwer. For ASR a
unit is a character or the `|` that ends every word, so that HI YOU has 7; a hypothesis counts as it came, with a `|`
that is missing or doubled. `accuracy` counts utterances; `uar`, the unweighted average recall, is the mean over the
classes that the references have of the share of their utterances that are right.
"""

from __future__ import annotations

import math
from collections import Counter
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


def unweighted_average_recall(predictions: Sequence[Prediction]) -> Score:
    """Mean recall of the classes; its numerator is their sum, its denominator their number."""
    there = Counter(p.reference for p in predictions)
    right = Counter(p.reference for p in predictions if p.reference == p.hypothesis)
    recalls = math.fsum(right[c] / n for c, n in there.items())
    return Score(
        metric="uar",
        value=recalls / len(there),
        numerator=recalls,
        denominator=len(there),
        direction="max",
        counts={"hits": right.total(), "utterances": len(predictions), "classes": len(there)},
    )


def _error_rate(metric: str, pairs: Sequence[tuple[str, str]], characters: bool = False) -> Score:
    import jiwer

    process = jiwer.process_characters if characters else jiwer.process_words
    out = process([reference for reference, _ in pairs], [hypothesis for _, hypothesis in pairs])
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
            "utterances": len(pairs),
            "empty_hypotheses": sum(not hypothesis.strip() for _, hypothesis in pairs),
        },
    )


def _texts(predictions: Sequence[Prediction]) -> list[tuple[str, str]]:
    return [(p.reference, p.hypothesis) for p in predictions]


def word_error_rate(predictions: Sequence[Prediction]) -> Score:
    """Word errors over reference words."""
    return _error_rate("wer", _texts(predictions))


def character_error_rate(predictions: Sequence[Prediction]) -> Score:
    """Character errors over reference characters; the space between two words is a character."""
    return _error_rate("cer", _texts(predictions), characters=True)


def unit_error_rate(predictions: Sequence[Prediction]) -> Score:
    """Errors in symbols of the vocabulary over those of the references (s3prl ec8064b, downstream/asr/expert.py)."""
    return _error_rate("uer", [(p.reference_units, p.hypothesis_units) for p in predictions])


def phone_error_rate(predictions: Sequence[Prediction]) -> Score:
    """Phone errors over reference phones; stress marks count, phones are separated by spaces."""
    return _error_rate("per", _texts(predictions))


OF_CLASSES = ("accuracy", "uar")  # the others compare texts
METRICS: Mapping[str, Callable[[Sequence[Prediction]], Score]] = MappingProxyType(
    {
        "accuracy": accuracy,
        "uar": unweighted_average_recall,
        "wer": word_error_rate,
        "cer": character_error_rate,
        "uer": unit_error_rate,
        "per": phone_error_rate,
    }
)
DIRECTIONS: Mapping[str, Literal["min", "max"]] = MappingProxyType(
    {"accuracy": "max", "uar": "max", "wer": "min", "cer": "min", "uer": "min", "per": "min"}
)
