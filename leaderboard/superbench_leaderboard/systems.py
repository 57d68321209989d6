"""Systems to be scored over several tasks: published ones, and our upstreams by their `superb` results.

An upstream of ours is one system by its name, key (weights, options, code and environment) and layers. Custom results
count nowhere. Where one task of it has several results that are not comparable, none of them is taken.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from superbench_leaderboard.published_lines import METRICS, PublishedLine, published_lines
from superbench_leaderboard.ranking import Standing, rank, values_by_seed
from superbench_leaderboard.records import entries
from superbench_leaderboard.schema import record, result
from superbench_leaderboard.score_definitions import System

OURS = "ours"


def systems(connection: Connection) -> list[System]:
    """All systems of a board: published ones, then ours; each by name."""
    return [*published_systems(published_lines(connection)), *_ours(connection)]


def published_systems(lines: Iterable[PublishedLine]) -> Iterator[System]:
    """One system per name of a source's snapshot."""
    together: dict[tuple[str, str, str], list[PublishedLine]] = defaultdict(list)
    for line in lines:
        together[line.source, line.snapshot, line.system].append(line)
    for (source, _snapshot, name), members in sorted(together.items()):
        yield System(
            name=name,
            source=source,
            metrics={(line.task, line.metric): line.value for line in members},
            parameters=members[0].parameters,
        )


def _ours(connection: Connection) -> Iterator[System]:
    live = [entry for entry in entries(connection) if entry.row.label == "superb" and entry.retracted_by is None]
    scores = _scores(connection)
    together: dict[tuple[str, str, str], dict[str, list[Standing]]] = defaultdict(lambda: defaultdict(list))
    for table in rank(live):
        for standing in table.standings:
            together[standing.upstream, standing.upstream_key, standing.layers][table.task].append(standing)
    for (name, key, layers), by_task in sorted(together.items()):
        metrics: dict[tuple[str, str], float] = {}
        for task, (standing, *others) in by_task.items():
            if not others:
                metrics |= _means(task, standing, scores)
        twice = tuple(sorted(task for task, standings in by_task.items() if len(standings) > 1))
        yield System(name=name, source=OURS, metrics=metrics, key=key, layers=layers, twice=twice)


def _scores(connection: Connection) -> dict[int, dict[str, float]]:
    """Every metric of every live `superb` result, by record: the index holds the headline alone."""
    query = (
        sa.select(record.c.seq, record.c.body)
        .join(result, result.c.seq == record.c.seq)
        .where(result.c.label == "superb", result.c.retracted_by.is_(None))
    )
    return {found.seq: _by_metric(json.loads(found.body)) for found in connection.execute(query)}


def _by_metric(body: Mapping[str, Any]) -> dict[str, float]:
    return {score["metric"]: score["value"] for score in body["result"]["scores"]}


def _means(
    task: str, standing: Standing, scores: Mapping[int, Mapping[str, float]]
) -> Iterator[tuple[tuple[str, str], float]]:
    """The mean over seeds of every metric that others publish of this task and all seeds have, as others print it."""
    for metric in METRICS:
        if metric.task == task and all(metric.name in scores[entry.seq] for entry in standing.entries):
            seeds = values_by_seed((entry.row.seed, scores[entry.seq][metric.name]) for entry in standing.entries)
            yield (task, metric.name), metric.published_from(math.fsum(seeds) / len(seeds))
