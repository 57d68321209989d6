"""`superbench leaderboard`: show, export, add, verify, retract, reindex, path. Results on stdout, notes on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from superbench.contracts import Settings
from superbench.errors import IntegrityError, NumericalError, ResourceError, UsageError, did_you_mean
from superbench.places import places
from superbench.writing import write_whole

if TYPE_CHECKING:
    from superbench_leaderboard.database import Board
    from superbench_leaderboard.ranking import Table

database_option = click.option("--database", metavar="URL", help="Another leaderboard: SQLAlchemy URL or SQLite file.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
task_option = click.option("--task", default="", help="Only this task.")
label_option = click.option(
    "--label", type=click.Choice(["custom", "superb", "all"]), default="all", show_default=True, help="Only these rows."
)
all_option = click.option("--all", "with_retracted", is_flag=True, help="Retracted rows too.")


@click.group()
def leaderboard() -> None:
    """Finished runs: recorded, ranked, exported."""


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
    """One table per group of comparable results, best first."""
    from superbench_leaderboard.show import print_tables, tables_json

    tables = _tables(_board(ctx, database), task, label, with_retracted)
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
    """One line per result, sorted, as CSV or Markdown."""
    from superbench_leaderboard import export as formats
    from superbench_leaderboard.records import chain_end

    if (csv_path is None) == (markdown_path is None):
        raise UsageError("an export is CSV or Markdown: one of the two", "--csv PATH or --markdown PATH; - is stdout")
    board = _board(ctx, database)
    with board.reading() as connection:
        chain = chain_end(connection)
    found = formats.lines(_tables(board, task, label, with_retracted))
    if csv_path is not None:
        _write(csv_path, formats.csv(found))
    if markdown_path is not None:
        _write(markdown_path, formats.markdown(found, chain.head))
    click.echo(f"{len(found)} results; the chain of {chain.records} records ends in {chain.head}", err=True)


@leaderboard.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@json_option
@database_option
@click.pass_context
def add(ctx: click.Context, paths: tuple[Path, ...], as_json: bool, database: str | None) -> None:
    """Record results from result.json files, or from folders searched for them."""
    from superbench_leaderboard.records import record_result

    files = list(_result_files(paths))
    board = _board(ctx, database, create=True)
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
    """Check every record against the chain, and the index against the records."""
    from superbench_leaderboard.records import verify as verify_chain

    if head and (len(head) < 8 or set(head) - set("0123456789abcdef")):
        raise UsageError(f"{head!r} is no hash of a chain", "8 to 64 hexadecimal digits, as an export prints them")
    with _board(ctx, database).reading() as connection:
        chain = verify_chain(connection, head)
    if as_json:
        click.echo(json.dumps({"records": chain.records, "head": chain.head}))
    else:
        click.echo(f"{chain.records} records, unbroken; head {chain.head}")


@leaderboard.command()
@click.argument("run_id")
@click.option("--why", required=True, metavar="TEXT", help="The reason, kept with the retraction.")
@database_option
@click.pass_context
def retract(ctx: click.Context, run_id: str, why: str, database: str | None) -> None:
    """Take a run's result off the board; its record stays."""
    from superbench_leaderboard.records import retract as retract_run

    with _board(ctx, database).writing() as connection:
        seq = retract_run(connection, run_id, why)
    click.echo(f"run {run_id} is retracted by record {seq}")


@leaderboard.command()
@database_option
@click.pass_context
def reindex(ctx: click.Context, database: str | None) -> None:
    """Make the table `result` anew from the records."""
    from superbench_leaderboard.records import rebuild_index

    with _board(ctx, database).writing() as connection:
        count = rebuild_index(connection)
    click.echo(f"{count} results indexed")


@leaderboard.command()
@json_option
@database_option
@click.pass_context
def path(ctx: click.Context, as_json: bool, database: str | None) -> None:
    """Where the leaderboard lies: its file, or its URL without the password."""
    from superbench_leaderboard.database import parse_url, place

    where = place(parse_url(_url(ctx, database)))
    click.echo(json.dumps({"path": where}, ensure_ascii=False) if as_json else where)


def _url(ctx: click.Context, database: str | None) -> str:
    """The database of `--database` (a URL, or the path of a SQLite file), else the one of the whole command line."""
    if database:
        return places(database=database).database
    settings = ctx.find_root().obj.settings
    assert isinstance(settings, Settings)
    return settings.database


def _board(ctx: click.Context, database: str | None, *, create: bool = False) -> Board:
    from superbench_leaderboard.database import open_board

    return open_board(_url(ctx, database), create=create)


def _tables(board: Board, task: str, label: str, with_retracted: bool) -> list[Table]:
    """The tables asked for; says on stderr where there are none, and refuses a task nobody has run."""
    from superbench_leaderboard.ranking import rank
    from superbench_leaderboard.records import entries

    with board.reading() as connection:
        every = entries(connection)
    tasks = {entry.row.task for entry in every}
    if task and every and task not in tasks:
        raise UsageError(f"no result of task {task!r} is on the leaderboard", did_you_mean(task, tasks))
    wanted = [
        entry
        for entry in every
        if task in ("", entry.row.task)
        and label in ("all", entry.row.label)
        and (with_retracted or entry.retracted_by is None)
    ]
    if not wanted:
        click.echo(f"no results on {board.where}", err=True)
    return rank(wanted)


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
        data = json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)
    except OSError as error:
        raise ResourceError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise IntegrityError(f"it is not whole JSON: {error}") from error
    if not isinstance(data, dict):
        raise IntegrityError("it holds no JSON object")
    return data


def _write(where: str, text: str) -> None:
    if where == "-":
        click.echo(text, nl=False)
    else:
        write_whole(Path(where), text.encode())
