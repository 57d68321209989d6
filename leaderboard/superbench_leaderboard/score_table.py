"""Systems and their overall score: on a terminal, as JSON and as CSV. Each names the definition and its version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from superbench_leaderboard.export import csv_text, number, printable
from superbench_leaderboard.score_definitions import DEFINITIONS, Overall, Reference, ScoreDefinition, System, overall
from superbench_leaderboard.show import print_drawn
from superbench_leaderboard.systems import OURS

Line = tuple[System, Overall]


def scored(definition: ScoreDefinition, systems: Sequence[System]) -> list[Line]:
    """Every system with its scores: best first, those without a score last."""
    lines = zip(systems, overall(definition, systems), strict=True)
    return sorted(lines, key=_best_first)


def score_json(definition: ScoreDefinition, lines: Sequence[Line]) -> dict[str, Any]:
    """A score table, JSON-ready. Metrics are on the published scale: percent, not fractions; None where missing."""
    return {
        "definition": definition.name,
        "version": definition.version,
        "summary": definition.summary,
        "systems": [
            {
                "system": system.name,
                "source": system.source,
                "published": system.source != OURS,
                "upstream_key": system.key,
                "layers": system.layers,
                "metrics": {_name(one): _value(system, one) for one in definition.references},
                "parameters": system.parameters,
                **asdict(found),
                "twice": _twice(definition, system),
            }
            for system, found in lines
        ],
    }


def score_csv(definition: ScoreDefinition, lines: Sequence[Line]) -> str:
    """A score table as CSV; numbers have 6 significant digits, empty cells are unknown."""
    head = ["definition", "version", "system", "source", "upstream8", "layers", "score", "rank", "score_p", "rank_p"]
    head += ["parameters", "missing", "twice", "flags", *map(_name, definition.references)]
    rows: list[list[str | float | None]] = [list(head)]
    for system, found in lines:
        what = [definition.name, definition.version, system.name, system.source, system.key[:8], system.layers]
        numbers = [found.score, found.rank, found.score_p, found.rank_p, system.parameters]
        lacks = [" ".join(found.missing), " ".join(_twice(definition, system))]
        flags = "" if system.source == OURS else "published"
        rows.append([*what, *numbers, *lacks, flags, *(_value(system, one) for one in definition.references)])
    return csv_text(rows)


def print_scores(definition: ScoreDefinition, lines: Sequence[Line]) -> None:
    """A score table on stdout."""
    from rich import box
    from rich.table import Table as RichTable

    drawn = RichTable(
        title=f"{definition.title}: {definition.summary}",
        caption=f"score: FBANK 0, SOTA of 2021 1000; rank: how many of these {len(lines)} are beaten, the higher the "
        "better; custom results count nowhere",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
    )
    for name in ("system", "from", "key", "layers"):
        drawn.add_column(name, overflow="fold")
    metrics = [_name(reference).replace(".", " ") for reference in definition.references]  # folds between words
    for name in ("score", "rank", "parameters", *metrics):
        drawn.add_column(name, justify="right", overflow="fold")
    drawn.add_column("missing", overflow="fold")
    for system, found in lines:
        drawn.add_row(
            printable(system.name),
            OURS if system.source == OURS else f"{system.source}, published",
            system.key[:8],
            printable(system.layers),
            _short(found.score, 1),
            _short(found.rank, 1),
            "" if system.parameters is None else f"{system.parameters / 1e6:.1f} M",
            *(_short(_value(system, one), 2) for one in definition.references),
            _lacks(definition, system, found),
        )
    print_drawn([drawn])


def definitions_json() -> list[dict[str, Any]]:
    """All definitions, JSON-ready."""
    return [asdict(definition) | {"tasks": list(definition.tasks)} for definition in DEFINITIONS]


def definitions_text() -> str:
    """All definitions with their tasks and reference points."""
    text = ""
    for definition in DEFINITIONS:
        text += f"{definition.title}: {definition.summary}\n  tasks: {', '.join(definition.tasks)}\n"
        for reference in definition.references:
            points = f"FBANK {number(reference.fbank)}, SOTA {number(reference.sota)}"
            text += f"  {_name(reference):20} {points}{' (100 - error)' if reference.error else ''}\n"
    return text


def _best_first(line: Line) -> tuple[bool, float, str, str, str, str]:
    system, found = line
    return (found.score is None, -(found.score or 0.0), system.name, system.source, system.key, system.layers)


def _name(reference: Reference) -> str:
    return f"{reference.task}.{reference.metric}"


def _value(system: System, reference: Reference) -> float | None:
    return system.metrics.get((reference.task, reference.metric))


def _twice(definition: ScoreDefinition, system: System) -> list[str]:
    return [task for task in definition.tasks if task in system.twice]


def _lacks(definition: ScoreDefinition, system: System, found: Overall) -> str:
    twice = _twice(definition, system)
    said = [task for task in found.missing if task not in twice]
    return ", ".join([*said, *(f"{task} (several results that are not comparable)" for task in twice)])


def _short(value: float | None, digits: int) -> str:
    """So many decimals; a zero has no sign."""
    return "" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"
