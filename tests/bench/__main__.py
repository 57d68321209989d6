"""Run the benchmarks, print one table, and keep every figure; progress goes to stderr."""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path

import click

from .comparison import Comparison, show
from .figures import write_figures

# modules with `compare`, and the sizes SMALL and FULL
NAMES = (
    "one_pass",
    "frames_tasks",
    "together",
    "blstm",
    "imports",
    "store",
    "warm_start",
    "memory",
    "growth",
    "upstream_speed",
    "accelerator",
)


@click.command()
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="Run these alone.")
@click.option("--full", is_flag=True, help="The sizes of a base encoder and of SUPERB's heads: hours.")
@click.option(
    "--threads", default=1, type=click.IntRange(1), help="Of torch: one is the steadiest on a shared machine.  [1]"
)
@click.option(
    "--out",
    default="bench",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the CSV and the picture.  [bench]",
)
@click.option("--json", "as_json", is_flag=True, help="Every round's numbers, and the machine, as JSON.")
def main(only: tuple[str, ...], full: bool, threads: int, out: Path, as_json: bool) -> None:
    """Measure two ways of the same thing in turn, and print their ratios; ends with 1 where a promise is broken."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is imported, here and in child processes
    found: list[Comparison] = []
    for name in only or NAMES:
        click.echo(f"benchmark {name} ...", err=True)
        begun = time.monotonic()
        module = importlib.import_module(f"{__package__}.{name}")
        found += module.compare(module.FULL if full else module.SMALL)
        click.echo(f"benchmark {name}: {time.monotonic() - begun:.0f} s", err=True)
    show(found, as_json=as_json)
    broken = [c for c in found if c.broken]
    if found:
        table, picture = write_figures(found, out)
        click.echo(f"every round is in {table}, a picture of it all in {picture}", err=True)
    for c in broken:
        click.echo(f"BROKEN: {c.benchmark}: {c.a} against {c.b}: {c.broken}", err=True)
    if broken:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
