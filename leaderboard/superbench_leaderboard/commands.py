"""`superbench leaderboard`: the group, and all its commands but `import` and `score`.

Results go to stdout, notes to stderr.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from superbench.errors import IntegrityError, NumericalError, ResourceError, UsageError, did_you_mean
from superbench.results import CHECKSUM, SCHEMA, check_seal
from superbench_leaderboard.options import (
    all_option,
    database_option,
    database_url,
    json_option,
    label_option,
    open_named,
    task_option,
    write_text,
)
from superbench_leaderboard.score_commands import import_published, score

if TYPE_CHECKING:
    from superbench_leaderboard.database import Board
    from superbench_leaderboard.published_lines import PublishedLine
    from superbench_leaderboard.records import Entry


@click.group()
def leaderboard() -> None:
    """Finished runs: recorded, ranked, exported."""


leaderboard.add_command(import_published)
leaderboard.add_command(score)


@leaderboard.command()
@task_option
@label_option
@all_option
@json_option
@database_option
@click.pass_context
def show(
    ctx: click.Context, *, task: str, label: str, with_retracted: bool, as_json: bool, database: str | None
) -> None:
    """One table per group of comparable results, best first; below `superb` ones what others published."""
    from superbench_leaderboard.ranking import published_tables, rank, with_references
    from superbench_leaderboard.show import print_tables, tables_json

    board = open_named(ctx, database)
    ours, published = _chosen(board, task, label, with_retracted)
    tables = with_references(rank(ours), published)
    if label == "published" or (label == "all" and task and not ours):
        tables += published_tables(published)
    if not tables:
        _note_empty(board, published)
    if as_json:
        click.echo(json.dumps(tables_json(tables), indent=1, ensure_ascii=False))
    else:
        print_tables(tables)


@leaderboard.command()
@click.option("--csv", "csv_path", metavar="PATH|-", help="Write CSV there.")
@click.option("--markdown", "markdown_path", metavar="PATH|-", help="Write Markdown there.")
@task_option
@label_option
@all_option
@database_option
@click.pass_context
def export(
    ctx: click.Context,
    *,
    csv_path: str | None,
    markdown_path: str | None,
    task: str,
    label: str,
    with_retracted: bool,
    database: str | None,
) -> None:
    """One line per result, sorted, as CSV or Markdown; after ours what others published."""
    from superbench_leaderboard import export as formats
    from superbench_leaderboard.ranking import rank
    from superbench_leaderboard.records import chain_end

    if (csv_path is None) == (markdown_path is None):
        raise UsageError("an export is CSV or Markdown: one of the two", "--csv PATH or --markdown PATH; - is stdout")
    board = open_named(ctx, database)
    with board.reading() as connection:
        chain = chain_end(connection)
    ours, published = _chosen(board, task, label, with_retracted)
    found = formats.lines(rank(ours))
    if label in ("all", "published"):
        found += formats.published_lines(published)
    if not found:
        _note_empty(board, published)
    if csv_path is not None:
        write_text(csv_path, formats.csv(found))
    if markdown_path is not None:
        write_text(markdown_path, formats.markdown(found, chain.head))
    click.echo(f"{len(found)} lines; the chain of {chain.records} records ends in {chain.head}", err=True)


@leaderboard.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@json_option
@database_option
@click.pass_context
def add(ctx: click.Context, paths: tuple[Path, ...], as_json: bool, database: str | None) -> None:
    """Record results from result.json files, or from folders searched for them."""
    from superbench_leaderboard.records import record_result

    files = list(_result_files(paths))
    board = open_named(ctx, database, create=True)
    done: list[dict[str, str]] = []
    refused: list[str] = []
    for file in files:
        try:
            data = _read_result(file)
            with board.writing() as connection:
                done.append({"file": str(file), "outcome": record_result(connection, data, kind="import")})
        except (IntegrityError, NumericalError) as error:
            refused.append(f"{file}: {error.message}")
    if as_json:
        click.echo(json.dumps(done, indent=1, ensure_ascii=False))
    else:
        for one in done:
            click.echo(f"{one['outcome']}: {one['file']}")
    if refused:
        raise IntegrityError(
            f"{len(refused)} of {len(files)} results were refused:\n  " + "\n  ".join(refused),
            "the others are on the leaderboard",
        )


@leaderboard.command()
@click.option("--head", default="", metavar="SHA", help="A hash that the chain must still contain.")
@json_option
@database_option
@click.pass_context
def verify(ctx: click.Context, head: str, as_json: bool, database: str | None) -> None:
    """Check every record against the chain, the index against the records, published lines against their source."""
    from superbench_leaderboard.published_lines import verify_published
    from superbench_leaderboard.records import verify as verify_chain

    if head and (len(head) < 8 or set(head) - set("0123456789abcdef")):
        raise UsageError(f"{head!r} is no hash of a chain", "8 to 64 hexadecimal digits, as an export prints them")
    with open_named(ctx, database).reading() as connection:
        chain = verify_chain(connection, head)
        published = verify_published(connection)
    if as_json:
        click.echo(json.dumps({"records": chain.records, "head": chain.head, "published": published}))
    else:
        click.echo(f"{chain.records} records, unbroken; head {chain.head}")
        if published:
            click.echo(f"{published} published scores, as shipped")


@leaderboard.command()
@click.argument("run_id")
@click.option("--why", required=True, metavar="TEXT", help="The reason, kept with the retraction.")
@database_option
@click.pass_context
def retract(ctx: click.Context, run_id: str, why: str, database: str | None) -> None:
    """Take a run's result off the board; its record stays."""
    from superbench_leaderboard.records import retract as retract_run

    with open_named(ctx, database).writing() as connection:
        seq = retract_run(connection, run_id, why)
    click.echo(f"run {run_id} is retracted by record {seq}")


@leaderboard.command()
@database_option
@click.pass_context
def reindex(ctx: click.Context, database: str | None) -> None:
    """Make the table `result` anew from the records."""
    from superbench_leaderboard.records import rebuild_index

    with open_named(ctx, database).writing() as connection:
        count = rebuild_index(connection)
    click.echo(f"{count} results indexed")


@leaderboard.command()
@json_option
@database_option
@click.pass_context
def path(ctx: click.Context, as_json: bool, database: str | None) -> None:
    """Where the leaderboard lies: its file, or its URL without the password."""
    from superbench_leaderboard.database import parse_url, place

    where = place(parse_url(database_url(ctx, database)))
    click.echo(json.dumps({"path": where}, ensure_ascii=False) if as_json else where)


def _chosen(board: Board, task: str, label: str, with_retracted: bool) -> tuple[list[Entry], list[PublishedLine]]:
    """Our results that were asked for, and all published lines of the task; refuses a task nobody has run."""
    from superbench_leaderboard.published_lines import published_lines
    from superbench_leaderboard.records import entries

    with board.reading() as connection:
        every, published = entries(connection), published_lines(connection)
    tasks = {entry.row.task for entry in every} | {line.task for line in published}
    if task and tasks and task not in tasks:
        raise UsageError(f"no result of task {task!r} is on the leaderboard", did_you_mean(task, tasks))
    ours = [
        entry
        for entry in every
        if task in ("", entry.row.task)
        and label in ("all", entry.row.label)
        and (with_retracted or entry.retracted_by is None)
    ]
    return ours, [line for line in published if task in ("", line.task)]


def _note_empty(board: Board, published: list[PublishedLine]) -> None:
    there = "; `--label published` shows what others published" if published else ""
    click.echo(f"no results on {board.where}{there}", err=True)


def _result_files(paths: tuple[Path, ...]) -> Iterator[Path]:
    for place in paths:
        files = sorted(place.rglob("result.json")) if place.is_dir() else [place]
        if not files:
            raise UsageError(f"there is no result.json in or under {place}", "give a run folder, or the file itself")
        yield from files


def _read_result(file: Path) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise NumericalError(f"it holds {constant}")

    try:
        text = file.read_bytes().decode()
        data = json.loads(text, parse_constant=refuse)
    except OSError as error:
        raise ResourceError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise IntegrityError(f"it is not whole JSON: {error}") from error
    if not isinstance(data, dict):
        raise IntegrityError("it holds no JSON object")
    if data.get("schema") == SCHEMA:
        check_seal(text, data)
        del data[CHECKSUM]  # of the file: the records have a chain of their own
    return data
