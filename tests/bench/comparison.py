"""Two ways of doing the same thing, measured in turn, and the page that shows them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from superbench.cli.output import echo_json, echo_table
from superbench.environment import environment

COLUMNS = ("benchmark", "A", "B", "A takes", "B takes", "A / B", "min .. max", "rounds", "note")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What A and B took in each round. A ratio is of one round, so that what slows the machine slows both."""

    benchmark: str
    a: str  # what A does
    b: str  # what B does
    unit: str  # "s", "h", "MiB"
    a_values: tuple[float, ...]  # one per round
    b_values: tuple[float, ...]
    note: str = ""  # what the ratio depends on
    extrapolated: bool = False  # computed from measured rounds, not measured
    broken: str = ""  # the promise that what was measured does not keep

    @property
    def ratios(self) -> tuple[float, ...]:
        return tuple(a / b for a, b in zip(self.a_values, self.b_values, strict=True))

    @property
    def ratio(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.ratios)


@dataclass(frozen=True, kw_only=True)
class Growth(Comparison):
    """What A and B took where A had more to do: a point of a curve."""

    of: str  # what there was more of: "utterances"
    times: float  # so many times as much


def alternate(measures: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, tuple[float, ...]]:
    """Take every measure once per round, in turn."""
    taken: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            taken[name].append(measure())
    return {name: tuple(values) for name, values in taken.items()}


def seconds(work: Callable[[], object], calls: int = 1) -> float:
    """Wall time of one call, as the mean of several where one is too short to be timed."""
    begun = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - begun) / calls


def show(comparisons: Sequence[Comparison], *, as_json: bool) -> None:
    """Print the results page on stdout: one line per comparison, or JSON with every round."""
    machine = environment("cpu")
    if as_json:
        as_values = [{**asdict(c), "ratios": c.ratios, "ratio": c.ratio} for c in comparisons]
        echo_json({"environment": machine, "comparisons": as_values})
        return
    title = f"side by side: torch {machine['versions']['torch']}, {machine['threads']} threads, {machine['platform']}"
    echo_table(title, COLUMNS, [_line(c) for c in comparisons])


def _line(c: Comparison) -> tuple[str, ...]:
    return (
        f"{c.benchmark} (extrapolated)" if c.extrapolated else c.benchmark,
        c.a,
        c.b,
        f"{statistics.median(c.a_values):.3g} {c.unit}",
        f"{statistics.median(c.b_values):.3g} {c.unit}",
        f"{c.ratio:.3g}",
        f"{min(c.ratios):.3g} .. {max(c.ratios):.3g}",
        str(len(c.ratios)),
        told(c),
    )


def told(c: Comparison) -> str:
    """The note, and what is broken."""
    return "; ".join(text for text in (c.note, c.broken and f"BROKEN: {c.broken}") if text)
