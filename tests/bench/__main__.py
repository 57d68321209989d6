"""Run the benchmarks and print one table; progress goes to stderr."""

from __future__ import annotations

import importlib
import os

import click

from .comparison import Comparison, show

# modules with `compare`, and the sizes SMALL and FULL
NAMES = ("one_pass", "blstm", "imports", "store", "memory", "upstream_speed")


@click.command()
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="Run these alone.")
@click.option("--full", is_flag=True, help="The sizes of a base encoder and of SUPERB's heads: many minutes.")
@click.option(
    "--threads", default=1, type=click.IntRange(1), help="Of torch: one is the steadiest on a shared machine.  [1]"
)
@click.option("--json", "as_json", is_flag=True, help="Every round's numbers, and the machine, as JSON.")
def main(only: tuple[str, ...], full: bool, threads: int, as_json: bool) -> None:
    """Measure two ways of doing the same thing side by side, and print their ratios."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is imported, here and in child processes
    found: list[Comparison] = []
    for name in only or NAMES:
        click.echo(f"benchmark {name} ...", err=True)
        module = importlib.import_module(f"{__package__}.{name}")
        found += module.compare(module.FULL if full else module.SMALL)
    show(found, as_json=as_json)


if __name__ == "__main__":
    main()
