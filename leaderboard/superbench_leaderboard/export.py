"""The board as CSV and as Markdown, one line per result, the same bytes for the same records.

Sorted by task, comparable group, rank, upstream and run, published lines after ours; numbers have 6 significant digits.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from superbench_leaderboard.published_lines import PublishedLine
from superbench_leaderboard.ranking import Standing, Table
from superbench_leaderboard.records import Entry

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a cell that begins so


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of an export; its fields are the columns. Hashes are cut to 8 characters.

    Of a published line only task, upstream, metric, direction, value, label and flags are known.
    """

    task: str
    rank: int | None  # of the upstream's mean over seeds, within `comparable8`; empty where retracted or published
    upstream: str
    upstream8: str
    layers: str
    head: str
    metric: str
    direction: str
    value: float  # a fraction
    seed: int | None
    seeds: int | None
    seed_mean: float | None
    seed_sd: float | None
    lr: float | None
    n_items: int | None
    label: str  # custom, superb or published
    departures: str
    task_version: str
    protocol8: str
    data8: str
    comparable8: str
    superbench: str
    date_utc: str
    run_id: str
    chain8: str
    flags: str  # "retracted", "published", or empty


COLUMNS = tuple(Line.__dataclass_fields__)


def lines(tables: Iterable[Table]) -> list[Line]:
    """The lines of an export, sorted."""
    found: list[Line] = []
    for table in tables:
        members = [(standing, entry) for standing in table.standings for entry in standing.entries]
        members.sort(key=_within_table)
        found += [_line(standing, entry) for standing, entry in members]
    return found


def published_lines(lines: Iterable[PublishedLine]) -> list[Line]:
    """Published lines in the columns of ours, on the scale of ours; what is not known of them is empty."""
    return [
        Line(
            task=line.task,
            rank=None,
            upstream=line.system,
            upstream8="",
            layers="",
            head="",
            metric=line.metric,
            direction=line.direction,
            value=line.fraction,
            seed=None,
            seeds=None,
            seed_mean=None,
            seed_sd=None,
            lr=None,
            n_items=None,
            label="published",
            departures="",
            task_version="",
            protocol8="",
            data8="",
            comparable8="",
            superbench="",
            date_utc="",
            run_id="",
            chain8="",
            flags="published",
        )
        for line in lines
    ]


def csv(found: Iterable[Line]) -> str:
    """The lines as CSV, under their columns."""
    return csv_text([COLUMNS, *([getattr(line, column) for column in COLUMNS] for line in found)])


def csv_text(rows: Iterable[Sequence[str | float | None]]) -> str:
    """CSV by RFC 4180 but with line feeds; text cells that a spreadsheet would run begin with an apostrophe."""
    return "".join(",".join(map(_csv_cell, row)) + "\n" for row in rows)


def markdown(found: Iterable[Line], head: str) -> str:
    """A Markdown table, with the chain's head below it for `verify --head`."""
    text = "".join(f"| {' | '.join(row)} |\n" for row in _markdown_rows(found))
    return f"{text}\nHead of the chain: `{head}`\n"


def number(value: float | None) -> str:
    """6 significant digits; nothing for None."""
    return "" if value is None else f"{value:.6g}"


def printable(text: str) -> str:
    """Text on one line, without control characters: they are written as escapes."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _within_table(member: tuple[Standing, Entry]) -> tuple[bool, int, str, str, int]:
    standing, entry = member
    return (standing.retracted, standing.rank or 0, standing.upstream, entry.row.run_id, entry.seq)


def _line(standing: Standing, entry: Entry) -> Line:
    row = entry.row
    return Line(
        task=row.task,
        rank=standing.rank,
        upstream=row.upstream,
        upstream8=row.upstream_key[:8],
        layers=row.layers,
        head=row.head,
        metric=row.metric,
        direction=row.direction,
        value=row.value,
        seed=row.seed,
        seeds=standing.seeds,
        seed_mean=standing.mean,
        seed_sd=standing.sd,
        lr=row.lr,
        n_items=row.n_items,
        label=row.label,
        departures="; ".join(row.departures),
        task_version=row.task_version,
        protocol8=row.protocol_sha[:8],
        data8=row.data_sha[:8],
        comparable8=row.comparable_key[:8],
        superbench=row.superbench,
        date_utc=row.finished,
        run_id=row.run_id,
        chain8=entry.chain_sha[:8],
        flags="retracted" if standing.retracted else "",
    )


def _csv_cell(value: str | float | None) -> str:
    if not isinstance(value, str):
        return str(value) if isinstance(value, int) else number(value)
    if value.startswith(FORMULA):
        value = "'" + value
    quoted = any(character in value for character in ',"\r\n')
    return '"' + value.replace('"', '""') + '"' if quoted else value


def _markdown_rows(found: Iterable[Line]) -> Iterator[Sequence[str]]:
    yield COLUMNS
    yield ["---"] * len(COLUMNS)
    for line in found:
        yield [_markdown_cell(getattr(line, column)) for column in COLUMNS]


def _markdown_cell(value: str | float | None) -> str:
    if not isinstance(value, str):
        return str(value) if isinstance(value, int) else number(value)
    text = html.escape(printable(value), quote=False)
    return "".join(f"\\{character}" if character in r"\|[]`*" else character for character in text)
