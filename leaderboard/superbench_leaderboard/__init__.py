"""The leaderboard: a listener that records finished runs, and the commands that rank and export them."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from superbench.contracts import Result, Settings
from superbench.errors import BusyError, ResourceError
from superbench.plugin import CommandSpec, hookimpl
from superbench_leaderboard.commands import leaderboard


@hookimpl
def superbench_commands() -> Iterable[CommandSpec]:
    """The group `superbench leaderboard`."""
    yield CommandSpec(command=leaderboard)


@hookimpl
def superbench_result(result: Result, settings: Settings) -> None:
    """Record a finished run in the database that `settings` names.

    Raises what `record_result` raises; where the database is busy or cannot be written the hint names the run's folder,
    from which `superbench leaderboard add` imports the result later.
    """
    from superbench_leaderboard.database import open_board
    from superbench_leaderboard.records import record_result

    try:
        with open_board(settings.database).writing() as connection:
            outcome = record_result(connection, result.to_json())
    except (BusyError, ResourceError) as error:
        mend = f"the result is on disk; `superbench leaderboard add {result.folder}` imports it later"
        raise type(error)(error.message, mend) from error
    if outcome == "retracted":
        logging.getLogger(__name__).warning(
            "run %s gave the score that was retracted from the leaderboard; it stays retracted", result.run_id
        )
