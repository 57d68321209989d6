"""`superbench leaderboard import` and `score`: published systems beside ours, and one number over many tasks."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from superbench.errors import UsageError
from superbench_leaderboard.options import database_option, json_option, open_named, write_text
from superbench_leaderboard.score_definitions import definition_of


@click.command("import")
@click.argument("source")
@json_option
@database_option
@click.pass_context
def import_published(ctx: click.Context, source: str, as_json: bool, database: str | None) -> None:
    """Put published rows beside ours, as reference lines. SOURCE: superb."""
    from superbench_leaderboard.published_lines import SOURCES, import_lines, source_of

    source_of(source)  # before a board is made
    with open_named(ctx, database, create=True).writing() as connection:
        done = import_lines(connection, source)
    if as_json:
        click.echo(json.dumps(asdict(done)))
    else:
        mended = f", {done.mended} were not as published and are put right" if done.mended else ""
        click.echo(f"{done.new} published scores are new, {done.known} were known{mended}")
        click.echo(f"{source}: {SOURCES[source].where}, {done.snapshot}")


@click.command()
@click.option("--definition", "name", default="superbench-five", show_default=True, help="Which overall score.")
@click.option("--list", "list_them", is_flag=True, help="List the definitions, with tasks and reference points.")
@json_option
@click.option("--csv", "csv_path", metavar="PATH|-", help="Write CSV there.")
@database_option
@click.pass_context
def score(
    ctx: click.Context, *, name: str, list_them: bool, as_json: bool, csv_path: str | None, database: str | None
) -> None:
    """One overall score per system: published ones, and ours by their `superb` results (mean over seeds)."""
    from superbench_leaderboard import score_table
    from superbench_leaderboard.systems import systems

    if as_json and csv_path is not None:
        raise UsageError("scores are written as JSON or as CSV, not both", "leave out --json or --csv")
    if list_them and csv_path is not None:
        raise UsageError("the list of definitions is not written as CSV", "--list --json")
    if list_them:
        said = json.dumps(score_table.definitions_json(), indent=1) if as_json else score_table.definitions_text()
        click.echo(said.rstrip("\n"))
        return
    definition = definition_of(name)
    board = open_named(ctx, database)
    with board.reading() as connection:
        lines = score_table.scored(definition, systems(connection))
    if not lines:
        click.echo(f"no superb results on {board.where}; `superbench leaderboard import superb` brings some", err=True)
    if csv_path is not None:
        write_text(csv_path, score_table.score_csv(definition, lines))
    elif as_json:
        click.echo(json.dumps(score_table.score_json(definition, lines), indent=1, ensure_ascii=False))
    elif lines:
        score_table.print_scores(definition, lines)
