"""What several commands share: their options, the board that these name, and where text is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from superbench.contracts import Settings
from superbench.places import places
from superbench.writing import write_whole

if TYPE_CHECKING:
    from superbench_leaderboard.database import Board

database_option = click.option("--database", metavar="URL", help="Another leaderboard: SQLAlchemy URL or SQLite file.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
task_option = click.option("--task", default="", help="Only this task.")
label_option = click.option(
    "--label",
    type=click.Choice(["custom", "superb", "published", "all"]),
    default="all",
    show_default=True,
    help="Only these rows.",
)
all_option = click.option("--all", "with_retracted", is_flag=True, help="Retracted rows too.")


def database_url(ctx: click.Context, database: str | None) -> str:
    """The database of `--database` (a URL, or the path of a SQLite file), else the one of the whole command line."""
    if database:
        return places(database=database).database
    settings = ctx.find_root().obj.settings
    assert isinstance(settings, Settings)
    return settings.database


def open_named(ctx: click.Context, database: str | None, *, create: bool = False) -> Board:
    """Open that database; one that is not there is made only with `create`."""
    from superbench_leaderboard.database import open_board

    return open_board(database_url(ctx, database), create=create)


def write_text(where: str, text: str) -> None:
    """Write a file whole, or to stdout where its name is `-`."""
    if where == "-":
        click.echo(text, nl=False)
    else:
        write_whole(Path(where), text.encode())
