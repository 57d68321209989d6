"""The board on a terminal, and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import click

from superbench_leaderboard.export import number, printable
from superbench_leaderboard.published_lines import PublishedLine
from superbench_leaderboard.ranking import Standing, Table

PIPED_WIDTH = 100_000  # columns, where the output is no terminal: more than any name needs


def print_tables(tables: Sequence[Table]) -> None:
    """One table per comparable group on stdout."""
    print_drawn([_rich(table) for table in tables])


def print_drawn(drawn: Iterable[Any]) -> None:
    """Rich tables on stdout. A terminal folds what is too long for it; elsewhere nothing is cut."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPED_WIDTH
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        for table in drawn:
            console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def tables_json(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """What `show` prints, JSON-ready."""
    return [
        {
            "task": table.task,
            "task_versions": list(table.task_versions),
            "metric": table.metric,
            "direction": table.direction,
            "label": table.label,
            "departures": list(table.departures),
            "protocol_sha": table.protocol_sha,
            "data_sha": table.data_sha,
            "comparable_key": table.comparable_key,
            "rows": [_standing_json(standing) for standing in table.standings],
            "published": [asdict(line) for line in table.published],
        }
        for table in tables
    ]


def _standing_json(standing: Standing) -> dict[str, Any]:
    return {
        "rank": standing.rank,
        "upstream": standing.upstream,
        "upstream_key": standing.upstream_key,
        "layers": standing.layers,
        "head": standing.head,
        "mean": standing.mean,
        "sd": standing.sd,
        "seeds": standing.seeds,
        "lrs": list(standing.lrs),
        "n_items": standing.n_items,
        "retracted": standing.retracted,
        "run_ids": [entry.row.run_id for entry in standing.entries],
    }


def _rich(table: Table) -> Any:
    from rich import box
    from rich.table import Table as RichTable

    better = "lower" if table.direction == "min" else "higher"
    versions, data, protocol = "/".join(table.task_versions), table.data_sha[:8], table.protocol_sha[:8]
    title = f"{table.task} {versions}, {table.label}, data {data}, protocol {protocol}"
    if not table.standings:
        title = f"{table.task}, published: nothing of ours"
    caption = f"custom: {'; '.join(table.departures) or 'no reason given'}" if table.label == "custom" else ""
    drawn = RichTable(
        title=printable(title),
        caption=printable(caption) or None,
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
    )
    drawn.add_column("rank", justify="right", overflow="fold")
    for name in ("upstream", "key", "layers", "head"):
        drawn.add_column(name, overflow="fold")
    for name in (f"{printable(table.metric)} ({better} is better)", "sd", "seeds", "lr", "test n"):
        drawn.add_column(name, justify="right", overflow="fold")
    for standing in table.standings:
        drawn.add_row(*_cells(standing))
    drawn.add_section()
    for line in table.published:
        drawn.add_row(*_published_cells(line))
    return drawn


def _cells(standing: Standing) -> list[str]:
    return [
        "retracted" if standing.rank is None else str(standing.rank),
        printable(standing.upstream),
        standing.upstream_key[:8],  # weights, options, code and environment
        printable(standing.layers),
        printable(standing.head),
        percent(standing.mean),
        "" if standing.sd is None else percent(standing.sd),
        str(standing.seeds),
        ", ".join("per fold" if lr is None else number(lr) for lr in standing.lrs),
        str(standing.n_items),
    ]


def _published_cells(line: PublishedLine) -> list[str]:
    value = f"{line.value:.2f} {'%' if line.unit == 'percent' else line.unit}"
    return ["published", printable(line.system), "", "", "", value, "", "", "", ""]


def percent(fraction: float) -> str:
    """A score as `superbench run` prints it; JSON and exports have it in full."""
    return f"{100 * fraction:.2f} %"
