"""One number for many tasks: definitions of an overall score, each with its name and version.

SUPERB's site puts every metric on a line where FBANK stands at 0 and a reference system of 2021 ("SOTA") at 1000. The
mean over a task's metrics, then over tasks, is the score. Formulas and reference points were read in
superbbenchmark.github.io, commit 2935745: `src/overall_metrics.js` and `reference_points` in `src/Data.js`. Its guards
against division by zero (1e-12) are left out: they change no digit that is shown.

A definition whose tasks, metrics or reference points change gets another version.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from superbench.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Reference:
    """Where a metric stands at 0 and at 1000. An error `v` counts as 100 - v, in the reference points as well."""

    task: str
    metric: str
    fbank: float
    sota: float
    error: bool = False


@dataclass(frozen=True, kw_only=True)
class ScoreDefinition:
    """An overall score: whose it is, and what it is the mean of."""

    name: str
    version: str
    summary: str
    references: tuple[Reference, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(reference.task for reference in self.references))

    @property
    def title(self) -> str:
        return f"{self.name} version {self.version}"


@dataclass(frozen=True, kw_only=True)
class System:
    """One upstream with all that was measured of it, published or ours."""

    name: str
    source: str  # "ours", or the name of the source that published it
    metrics: Mapping[tuple[str, str], float]  # by task and metric, on the published scale: percent, not fractions
    parameters: int | None = None  # of the upstream; None where unknown
    key: str = ""  # of our upstreams: hash of weights, options, code and environment
    layers: str = ""  # of our upstreams
    twice: tuple[str, ...] = ()  # tasks with several results that are not comparable: none of them is in `metrics`


@dataclass(frozen=True, kw_only=True)
class Overall:
    """What a definition says of one system among others. The higher the better, ranks too."""

    score: float | None  # None where a task is missing
    rank: float  # systems beaten: the mean over metrics, then over tasks; 0 for what is missing
    score_p: float | None  # None where a task or the number of parameters is missing
    rank_p: float | None  # None where the number of parameters is missing
    missing: tuple[str, ...]  # tasks without a result


# References of the site's columns. PR, ASR, SF-CER, ASV and SD are errors: FBANK's PER of 82.01 stands here as 17.99.
PR = Reference("pr", "per", 17.99, 96.47, error=True)
KS = Reference("ks", "accuracy", 41.3826674, 96.66)
IC = Reference("ic", "accuracy", 9.649354219, 98.76)
SID = Reference("sid", "accuracy", 20.058174, 90.3)
ER = Reference("er", "accuracy", 48.23672168, 67.62)
ASR = Reference("asr", "wer", 76.82, 96.38, error=True)
QBE = Reference("qbe", "mtwv", 0.58, 7.36)
SF_F1 = Reference("sf", "slot_type_f1", 69.64, 89.81)
SF_CER = Reference("sf", "slot_value_cer", 47.06, 78.24, error=True)
ASV = Reference("asv", "eer", 90.44, 94.89, error=True)
SD = Reference("sd", "der", 89.95, 94.38, error=True)
ST = Reference("st", "bleu", 2.32, 20.01)
PESQ = Reference("se", "pesq", 2.55, 2.64)
STOI = Reference("se", "stoi", 93.6, 94.2)
SS = Reference("ss", "si_sdri", 9.2341, 10.4514)

DEFINITIONS = (
    ScoreDefinition(
        name="superb-paper",
        version="1",
        summary="SUPERB's overall score over the ten tasks of its first paper (the site's subset 'Paper')",
        references=(PR, ASR, KS, QBE, SID, ASV, SD, IC, SF_F1, SF_CER, ER),
    ),
    ScoreDefinition(
        name="superb-public",
        version="1",
        summary="SUPERB's overall score over the ten tasks of its challenge (the site's subset 'Public Set')",
        references=(PR, ASR, QBE, SID, ASV, SD, ER, ST, PESQ, STOI, SS),
    ),
    ScoreDefinition(
        name="superbench-five",
        version="1",
        summary="superbench's own, not SUPERB's: the same formula and reference points over asr, pr, sid, er and ks",
        references=(ASR, PR, SID, ER, KS),
    ),
)


def definition_of(name: str) -> ScoreDefinition:
    """A definition by its name; `UsageError` where there is none."""
    known = {definition.name: definition for definition in DEFINITIONS}
    if name not in known:
        raise UsageError(f"there is no score definition {name!r}", did_you_mean(name, known))
    return known[name]


def interpolate(reference: Reference, value: float) -> float:
    """Where a published-scale value stands between FBANK (0) and SOTA (1000); no end is cut off."""
    better = 100 - value if reference.error else value
    return 1000 * (better - reference.fbank) / (reference.sota - reference.fbank)


def penalize(points: float, parameters: int) -> float:
    """Points per million parameters, for at least one million; points of 0 or less stay what they are."""
    return points / max(parameters / 1e6, 1) if points > 0 else points


def score(definition: ScoreDefinition, system: System) -> float | None:
    """The overall score; None where a task is missing, or one of its metrics."""
    return _complete_mean(definition, _points(definition, system))


def score_p(definition: ScoreDefinition, system: System) -> float | None:
    """The overall score with every metric's points penalized by parameters; None where a task or they are missing."""
    return _complete_mean(definition, _penalized_points(definition, system))


def overall(definition: ScoreDefinition, systems: Sequence[System]) -> list[Overall]:
    """Score every system, and rank it among all of them; in the order given."""
    points = [_points(definition, system) for system in systems]
    penalized = [_penalized_points(definition, system) for system in systems]
    ranks, ranks_p = _ranks(definition, points), _ranks(definition, penalized)
    return [
        Overall(
            score=_complete_mean(definition, points[index]),
            rank=ranks[index],
            score_p=_complete_mean(definition, penalized[index]),
            rank_p=None if system.parameters is None else ranks_p[index],
            missing=missing(definition, system),
        )
        for index, system in enumerate(systems)
    ]


def missing(definition: ScoreDefinition, system: System) -> tuple[str, ...]:
    """Tasks of which a metric is missing."""
    points = _points(definition, system)
    lacking = {reference.task for reference in definition.references if reference not in points}
    return tuple(task for task in definition.tasks if task in lacking)


_Points = Mapping[Reference, float]


def _points(definition: ScoreDefinition, system: System) -> _Points:
    """Per metric that was measured."""
    return {
        reference: interpolate(reference, system.metrics[reference.task, reference.metric])
        for reference in definition.references
        if (reference.task, reference.metric) in system.metrics
    }


def _penalized_points(definition: ScoreDefinition, system: System) -> _Points:
    """Per metric that was measured; none where the number of parameters is unknown."""
    parameters = system.parameters
    if parameters is None:
        return {}
    return {reference: penalize(points, parameters) for reference, points in _points(definition, system).items()}


def _ranks(definition: ScoreDefinition, points: Sequence[_Points]) -> list[float]:
    """Per system: how many others have less, averaged within tasks and over tasks; 0 for a metric it lacks."""
    ascending = {
        reference: sorted(of_one[reference] for of_one in points if reference in of_one)
        for reference in definition.references
    }
    return [
        _mean_of_tasks(
            definition,
            {
                reference: float(bisect_left(every, of_one[reference])) if reference in of_one else 0.0
                for reference, every in ascending.items()
            },
        )
        for of_one in points
    ]


def _complete_mean(definition: ScoreDefinition, points: _Points) -> float | None:
    return _mean_of_tasks(definition, points) if len(points) == len(definition.references) else None


def _mean_of_tasks(definition: ScoreDefinition, points: _Points) -> float:
    """The mean over the metrics of each task, then over tasks; every metric of the definition must be there."""
    means = []
    for task in definition.tasks:
        of_task = [points[reference] for reference in definition.references if reference.task == task]
        means.append(math.fsum(of_task) / len(of_task))
    return math.fsum(means) / len(means)
