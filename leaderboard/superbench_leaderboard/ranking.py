"""Who stands where: only results that answer the same question are ranked against each other.

Published lines stand below `superb` tables of their task and metric, for reference and without a rank.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from superbench_leaderboard.published_lines import PublishedLine
from superbench_leaderboard.records import Entry


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One upstream in one table: its seeds together."""

    rank: int | None  # from 1; ties share one; None for retracted results
    upstream: str
    upstream_key: str  # weights, options, code and environment: other weights stand in another line
    layers: str
    head: str
    mean: float  # over seeds; a seed that ran more than once counts once, by the mean of its runs
    sd: float | None  # over seeds, n - 1; None for one seed
    seeds: int  # distinct ones
    lrs: tuple[float | None, ...]  # distinct ones, ascending; None where folds chose differently
    n_items: int
    retracted: bool
    entries: tuple[Entry, ...]  # by run and record


@dataclass(frozen=True, kw_only=True)
class Table:
    """Results with one comparable key, best first."""

    comparable_key: str
    task: str
    task_versions: tuple[str, ...]  # they share their major number
    metric: str
    direction: str  # min or max
    label: str  # custom or superb; published, where it holds nothing of ours
    protocol_sha: str
    data_sha: str
    departures: tuple[str, ...]  # of any of its results: what makes it custom
    standings: tuple[Standing, ...]
    published: tuple[PublishedLine, ...] = ()  # for reference, best first


def rank(entries: Iterable[Entry]) -> list[Table]:
    """Sort results into tables: by task, superb before custom, then comparable key."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.row.comparable_key].append(entry)
    tables = [_table(group) for group in groups.values()]
    return sorted(tables, key=lambda table: (table.task, table.label != "superb", table.comparable_key))


def with_references(tables: Iterable[Table], lines: Sequence[PublishedLine]) -> list[Table]:
    """The same tables, with the published lines of their task and metric below those of label `superb`."""
    return [
        replace(
            table, published=tuple(line for line in lines if (line.task, line.metric) == (table.task, table.metric))
        )
        if table.label == "superb"
        else table
        for table in tables
    ]


def published_tables(lines: Iterable[PublishedLine]) -> list[Table]:
    """Tables that hold nothing of ours: published lines, by task and metric."""
    groups: dict[tuple[str, str], list[PublishedLine]] = defaultdict(list)
    for line in lines:
        groups[line.task, line.metric].append(line)
    return [
        Table(
            comparable_key="",
            task=task,
            task_versions=(),
            metric=metric,
            direction=group[0].direction,
            label="published",
            protocol_sha="",
            data_sha="",
            departures=(),
            standings=(),
            published=tuple(group),
        )
        for (task, metric), group in groups.items()
    ]


def values_by_seed(runs: Iterable[tuple[int, float]]) -> list[float]:
    """One value per seed: a seed that ran more than once counts once, by the mean of its runs."""
    by_seed: dict[int, list[float]] = defaultdict(list)
    for seed, value in runs:
        by_seed[seed].append(value)
    return [math.fsum(values) / len(values) for values in by_seed.values()]


def _table(group: list[Entry]) -> Table:
    row = group[0].row
    return Table(
        comparable_key=row.comparable_key,
        task=row.task,
        task_versions=tuple(sorted({entry.row.task_version for entry in group})),
        metric=row.metric,
        direction=row.direction,
        label=row.label,
        protocol_sha=row.protocol_sha,
        data_sha=row.data_sha,
        departures=tuple(sorted({departure for entry in group for departure in entry.row.departures})),
        standings=tuple(_ranked(_standings(group), -1 if row.direction == "max" else 1)),
    )


def _standings(group: list[Entry]) -> Iterator[Standing]:
    together: dict[tuple[str, str, str, str, bool], list[Entry]] = defaultdict(list)
    for entry in group:
        row = entry.row
        retracted = entry.retracted_by is not None
        together[row.upstream, row.upstream_key, row.layers, row.head, retracted].append(entry)
    for (upstream, upstream_key, layers, head, retracted), members in together.items():
        values = values_by_seed((entry.row.seed, entry.row.value) for entry in members)
        mean = math.fsum(values) / len(values)
        spread = math.fsum((value - mean) ** 2 for value in values)
        lrs = {entry.row.lr for entry in members}
        yield Standing(
            rank=None,
            upstream=upstream,
            upstream_key=upstream_key,
            layers=layers,
            head=head,
            mean=mean,
            sd=math.sqrt(spread / (len(values) - 1)) if len(values) > 1 else None,
            seeds=len(values),
            lrs=tuple(sorted(lrs, key=lambda lr: (lr is None, lr or 0.0))),
            n_items=members[0].row.n_items,
            retracted=retracted,
            entries=tuple(sorted(members, key=lambda entry: (entry.row.run_id, entry.seq))),
        )


def _ranked(standings: Iterable[Standing], sign: int) -> Iterator[Standing]:
    """Best first, retracted ones last; means equal to 12 digits (the tolerance of a score) share a rank."""

    def order(standing: Standing) -> tuple[bool, float, str, str, str, str]:
        names = (standing.upstream, standing.upstream_key, standing.layers, standing.head)
        return (standing.retracted, sign * round(standing.mean, 12), *names)

    place, before = 0, math.nan
    for position, standing in enumerate(sorted(standings, key=order), start=1):
        if standing.retracted:
            yield standing
            continue
        mean = round(standing.mean, 12)
        place = place if mean == before else position
        before = mean
        yield replace(standing, rank=place)
