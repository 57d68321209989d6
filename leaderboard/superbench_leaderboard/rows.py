"""One result as the board indexes it: read from `result.json`, and held to what must be true of any score."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from superbench.contracts import sha256_of
from superbench.errors import IntegrityError, NumericalError

SCHEMAS = (1, 2)  # of result.json: 2 adds the hashes of its files, of which the board keeps no column
SURROGATE = re.compile("[\ud800-\udfff]")  # half a pair: no UTF-8 can say it
RERUN = "score it again: `superbench run` with the same options"
REQUIRED: Mapping[str, tuple[type, ...]] = {
    "run_id": (str,),
    "group": (str,),
    "label": (str,),
    "departures": (list,),
    "task": (str,),
    "task_version": (str,),
    "protocol_sha": (str,),
    "upstream": (str,),
    "upstream_key": (str,),
    "seed": (int,),
    "lr": (float, int, type(None)),
    "layers": (str,),
    "head": (str,),
    "scores": (list,),
    "dev_scores": (list,),
    "train_scores": (list,),
    "layer_weights": (dict,),
    "layer_weights_norm_corrected": (dict,),
    "data": (dict,),
    "environment": (dict,),
    "finished": (str,),
}
REQUIRED_OF_SCORE: Mapping[str, tuple[type, ...]] = {
    "metric": (str,),
    "value": (float, int),
    "numerator": (float, int),
    "denominator": (float, int),
    "direction": (str,),
    "counts": (dict,),
}


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """What the table `result` holds of one run; `value` to `n_items` are those of the headline score on test."""

    run_id: str
    group_id: str  # hash of the plan: results of several seeds share it
    task: str
    task_version: str
    protocol_sha: str
    data_sha: str
    label: str  # custom or superb
    departures: tuple[str, ...]  # why it is custom
    comparable_key: str  # rows may be ranked against each other where it is equal
    upstream: str
    upstream_key: str
    layers: str
    head: str
    seed: int
    lr: float | None  # None where folds chose differently
    metric: str
    direction: str  # min or max
    value: float  # a fraction
    n_items: int  # words, phones or utterances the headline counts on test: its denominator; utterances over all folds
    superbench: str  # the version that ran it; empty where unknown
    finished: str  # UTC, ISO 8601


def result_from_json(data: Mapping[str, Any]) -> ResultRow:
    """Read a result as `Result.to_json` or `result.json` gives it; keys it does not know are left alone.

    Raises `IntegrityError` naming what is missing, of the wrong type or untrue, and `NumericalError` for NaN and
    infinities.
    """
    return row_of(plain_json(data))


def row_of(data: Mapping[str, Any]) -> ResultRow:
    """Read a result that has been through `plain_json`; raises as `result_from_json` does."""
    if data.get("schema") not in SCHEMAS:
        raise IntegrityError(
            f"a result of schema {data.get('schema')!r}: this superbench reads {' and '.join(map(str, SCHEMAS))}",
            "update superbench where the number is higher",
        )
    _check_keys(data, REQUIRED, "the result")
    if not isinstance(data["data"].get("sha"), str):
        raise IntegrityError("the result does not say which data it was scored on: data.sha is missing", RERUN)
    broken = list(_untrue(data))
    if broken:
        raise IntegrityError(f"result {data['run_id']!r} cannot be true: {'; '.join(broken)}", RERUN)
    headline = data["scores"][0]
    return ResultRow(
        run_id=data["run_id"],
        group_id=data["group"],
        task=data["task"],
        task_version=data["task_version"],
        protocol_sha=data["protocol_sha"],
        data_sha=data["data"]["sha"],
        label=data["label"],
        departures=tuple(str(departure) for departure in data["departures"]),
        comparable_key=comparable_key(data),
        upstream=data["upstream"],
        upstream_key=data["upstream_key"],
        layers=data["layers"],
        head=data["head"],
        seed=data["seed"],
        lr=None if data["lr"] is None else float(data["lr"]),
        metric=headline["metric"],
        direction=headline["direction"],
        value=float(headline["value"]),
        n_items=_n_items(headline),
        superbench=_version(data["environment"]),
        finished=data["finished"],
    )


def comparable_key(data: Mapping[str, Any]) -> str:
    """Hash of what two results must share to stand in one table.

    Task, major version of the task, protocol, data, headline metric and label: the same question, asked the same way.
    """
    major = data["task_version"].split(".")[0]
    metric = data["scores"][0]["metric"]
    return sha256_of([data["task"], major, data["protocol_sha"], data["data"]["sha"], metric, data["label"]])


def _n_items(headline: Mapping[str, Any]) -> int:
    """What the headline counts: its denominator, but of a mean over folds, whose denominator they are, utterances."""
    counts = headline["counts"]
    return int(counts["utterances"] if "folds" in counts else headline["denominator"])


def _version(environment: Mapping[str, Any]) -> str:
    """The superbench that ran it, as `superbench.environment` writes it; empty where it is not written."""
    versions = environment.get("versions")
    return str(versions.get("superbench", "")) if isinstance(versions, Mapping) else ""


def plain_json(value: Any, where: str = "") -> Any:
    """A copy in JSON's own types, text in Unicode's composed form (NFC).

    Raises `NumericalError` for NaN and infinities, `IntegrityError` for what no database keeps: NUL, half a surrogate
    pair, anything that is not JSON. `where` names the place in the message.
    """
    match value:
        case None | bool() | int():
            return value
        case float():
            if not math.isfinite(value):
                raise NumericalError(f"{where or 'the value'} is {value}", "a score is a number: see the run's log")
            return value
        case str():
            if "\0" in value or SURROGATE.search(value):
                raise IntegrityError(f"{where or 'the text'} holds NUL or half a surrogate pair: {value!r}", RERUN)
            return unicodedata.normalize("NFC", value)
        case Mapping():
            return {
                plain_json(str(key), where): plain_json(item, f"{where}.{key}".lstrip("."))
                for key, item in value.items()
            }
        case list() | tuple():
            return [plain_json(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise IntegrityError(f"{where or 'the value'} is of {type(value).__name__}, which JSON does not have", RERUN)


def _check_keys(data: Mapping[str, Any], required: Mapping[str, tuple[type, ...]], what: str) -> None:
    missing = [key for key in required if key not in data]
    if missing:
        raise IntegrityError(f"{what} lacks {', '.join(missing)}", RERUN)
    for key, types in required.items():
        if not isinstance(data[key], types) or isinstance(data[key], bool):
            wanted = " or ".join(kind.__name__ for kind in types)
            raise IntegrityError(f"{what} has {key} = {data[key]!r}: {wanted} was expected", RERUN)


def _untrue(data: Mapping[str, Any]) -> Iterator[str]:
    """Every invariant that a result breaks, in words."""
    if data["label"] not in ("custom", "superb"):
        yield f"label {data['label']!r} is neither custom nor superb"
    if not -(2**63) <= data["seed"] < 2**63:
        yield f"seed {data['seed']} does not fit into 64 bits"
    if not data["scores"]:
        yield "scores are empty"
    for part in ("scores", "dev_scores", "train_scores"):
        for index, score in enumerate(data[part]):
            yield from _untrue_score(score, f"{part}[{index}]")
    for part in ("layer_weights", "layer_weights_norm_corrected"):
        for partition, weights in data[part].items():
            yield from _untrue_weights(weights, f"{part}[{partition!r}]")


def _untrue_score(score: Any, where: str) -> Iterator[str]:
    if not isinstance(score, Mapping):
        raise IntegrityError(f"{where} is {score!r}, not a score", RERUN)
    _check_keys(score, REQUIRED_OF_SCORE, where)
    value, numerator, denominator = score["value"], score["numerator"], score["denominator"]
    if score["direction"] not in ("min", "max"):
        yield f"{where} has direction {score['direction']!r}, neither min nor max"
    if denominator <= 0:
        yield f"{where} has denominator {denominator}, not above 0"
    elif abs(value - numerator / denominator) > 1e-12 * max(1.0, abs(value)):
        yield f"{where} has value {value!r}, but {numerator!r} / {denominator!r} = {numerator / denominator!r}"
    utterances = score["counts"].get("utterances")
    if "folds" in score["counts"] and not (isinstance(utterances, int) and utterances > 0):
        yield f"{where} is a mean over folds of {utterances!r} utterances"
    if score["metric"] == "accuracy" and not 0 <= value <= 1:
        yield f"{where} has accuracy {value!r}, outside 0 to 1"


def _untrue_weights(weights: Any, where: str) -> Iterator[str]:
    numbers = isinstance(weights, Sequence) and all(isinstance(weight, float | int) for weight in weights)
    if not numbers:
        yield f"{where} is {weights!r}, not a list of numbers"
    elif abs(math.fsum(weights) - 1) > 1e-4:
        yield f"{where} sums to {math.fsum(weights):.6g}, not 1"
