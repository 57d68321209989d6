"""The figures of a run of the benchmarks on disk: every round as a line of a CSV, and one picture of it all."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .comparison import Comparison, Growth, told

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLE, PICTURE = "figures.csv", "figures.png"
COLUMNS = ("benchmark", "a", "b", "unit", "round", "a_value", "b_value", "ratio", "note", "extrapolated")
ROW = 0.3  # inches per comparison
LONGEST = 90  # characters of a label
MEASURED, EXTRAPOLATED = "#0072b2", "#d55e00"  # of Okabe and Ito: told apart without red and green
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # of costs
MARKERS = "osD^vPX*<>"  # of what there is more of


def write_figures(found: Sequence[Comparison], folder: Path) -> tuple[Path, Path]:
    """Write both files, replacing those of an earlier run; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table(found, folder / TABLE)
    draw(found, folder / PICTURE)
    return folder / TABLE, folder / PICTURE


def write_table(found: Sequence[Comparison], path: Path) -> None:
    """One line per comparison and round, counted from 1. Numbers are written in full."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for c in found:
            rounds = zip(c.a_values, c.b_values, c.ratios, strict=True)
            for number, (a, b, ratio) in enumerate(rounds, start=1):
                line = (c.benchmark, c.a, c.b, c.unit, number, a, b, ratio, told(c), str(c.extrapolated).lower())
                writer.writerow(line)


def draw(found: Sequence[Comparison], path: Path) -> None:
    """The ratios of all comparisons with their spread; beside them, how costs grow with the work."""
    import matplotlib as mpl

    mpl.use("agg")  # a file, no window
    from matplotlib import pyplot

    ratios = [c for c in found if not isinstance(c, Growth)]
    growths = [c for c in found if isinstance(c, Growth)]
    panels = [draw_ratios] * bool(ratios) + [draw_growth] * bool(growths)
    of_panels: list[Any] = [ratios] * bool(ratios) + [growths] * bool(growths)
    height = max(5.0, 1.5 + ROW * len(ratios))
    figure, axes = pyplot.subplots(1, max(1, len(panels)), figsize=(14.0 + 7.0 * bool(growths), height), squeeze=False)
    for panel, of_panel, axis in zip(panels, of_panels, axes[0], strict=False):
        panel(axis, of_panel)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw_ratios(axis: Axes, found: Sequence[Comparison]) -> None:
    """One row per comparison: the median of the rounds' ratios, and a line from the least to the greatest."""
    for row, c in enumerate(found):
        color = EXTRAPOLATED if c.extrapolated else MEASURED
        axis.plot([min(c.ratios), max(c.ratios)], [row, row], color=color, linewidth=2, alpha=0.6)
        axis.plot([c.ratio], [row], color=color, marker="D" if c.extrapolated else "o", markersize=5)
        axis.annotate(f"{c.ratio:.3g}", (max(c.ratios), row), (6, -3), textcoords="offset points", fontsize=8)
    axis.axvline(1.0, color="grey", linewidth=1)
    axis.set_xscale("log")
    axis.margins(x=0.12)
    axis.set_yticks(range(len(found)), [_label(c) for c in found], fontsize=8)
    axis.set_ylim(len(found) - 0.5, -0.5)
    axis.set_xlabel("what A takes over what B takes (logarithmic; right of 1: A takes more)")
    axis.set_title("ratios: median, least to greatest round", fontsize=10)
    axis.grid(visible=True, axis="x", alpha=0.3)
    axis.plot([], [], color=MEASURED, marker="o", label="measured")
    axis.plot([], [], color=EXTRAPOLATED, marker="D", label="extrapolated")
    axis.legend(loc="lower right", fontsize=8)


def draw_growth(axis: Axes, found: Sequence[Growth]) -> None:
    """One curve per cost and thing there is more of; the diagonal is a cost in proportion to the work."""
    curves: dict[str, list[Growth]] = {}
    for c in found:
        curves.setdefault(c.benchmark, []).append(c)
    costs, kinds = ([*dict.fromkeys(b.partition(", ")[at] for b in curves)] for at in (0, 2))
    for benchmark, points in curves.items():
        points.sort(key=lambda c: c.times)
        cost, _, kind = benchmark.partition(", ")
        times, ratios = [1.0, *(c.times for c in points)], [1.0, *(c.ratio for c in points)]
        spread = [[0.0, *(c.ratio - min(c.ratios) for c in points)], [0.0, *(max(c.ratios) - c.ratio for c in points)]]
        axis.errorbar(
            times,
            ratios,
            yerr=spread,
            color=COLORS[costs.index(cost) % len(COLORS)],
            marker=MARKERS[kinds.index(kind) % len(MARKERS)],
            capsize=3,
            linewidth=1.2,
            alpha=0.8,
            label=benchmark,
        )
    most = max(c.times for c in found)
    axis.plot([1, most], [1, most], color="grey", linestyle=":", label="in proportion")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("times as much work (logarithmic)")
    axis.set_ylabel("times the cost (logarithmic)")
    axis.set_title("how costs grow with the work", fontsize=10)
    axis.grid(visible=True, which="both", alpha=0.3)
    axis.legend(fontsize=8)


def _label(c: Comparison) -> str:
    text = f"{c.benchmark}: {c.a} / {c.b}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
