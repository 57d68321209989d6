"""Opening the database: SQLite by file, PostgreSQL by URL; migrated when older, refused when newer.

SQLite writes ahead of its file (WAL), waits `BUSY_SECONDS` for other writers, syncs every commit to the disk and takes
the write lock before it reads what it will write after. WAL does not work on network file systems: use PostgreSQL
there, or `superbench leaderboard add` on one machine.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from superbench.errors import (
    BusyError,
    IntegrityError,
    MissingExtraError,
    ResourceError,
    UsageError,
)
from superbench_leaderboard.records import rebuild_index
from superbench_leaderboard.schema import CURRENT, REVISIONS, VERSION_TABLE

BUSY_SECONDS = 30.0  # how long a writer waits for another one
POSTGRESQL_LOCK = 0x5EECB001  # any number, the same for every writer: the chain has one end
SQLITE_RESOURCE = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
)
LATER = "the result is on disk: `superbench leaderboard add RUN_FOLDER` imports it later"


class Board:
    """An open leaderboard. Each `reading` or `writing` block is one transaction on one connection of its own."""

    def __init__(self, url: URL) -> None:
        self.where = place(url)
        self.engine = _engine(url)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state and changes nothing."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            _raise_named(error.orig, self.where)
            raise

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that no other writer runs beside; committed at the end, undone by any error.

        Raises `BusyError` after `BUSY_SECONDS`, `ResourceError` where the disk or a permission fails.
        """
        try:
            with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
                if self.engine.dialect.name == "postgresql":
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(BUSY_SECONDS * 1000)}")
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(POSTGRESQL_LOCK)))
                yield connection
        except DBAPIError as error:
            _raise_named(error.orig, self.where)
            raise


def open_board(url: str, *, create: bool = True) -> Board:
    """Open the leaderboard at a SQLAlchemy URL, such as `sqlite:////home/me/board.db`, and bring its schema up to date.

    With `create=False` a SQLite file that does not exist is a `UsageError`, so that a mistyped path makes no new board.
    """
    parsed = parse_url(url)
    file = sqlite_file(parsed)
    if file is not None and not file.exists():
        if not create:
            raise UsageError(
                f"there is no leaderboard at {file}",
                "a finished run makes it, `superbench leaderboard add RUN_FOLDER` or `leaderboard import superb`",
            )
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(f"cannot make the folder {file.parent}: {error.strerror}", LATER) from error
    board = Board(parsed)
    with board.reading() as connection:
        version = _version(connection, board.where)
    if version != CURRENT:
        _migrate(board)
    return board


def parse_url(url: str) -> URL:
    """Read the path of a SQLite file, or a URL; a `UsageError` where it is none of SQLite's or PostgreSQL's."""
    hint = "a file's path, sqlite:///FILE (four slashes for an absolute path) or postgresql://USER@HOST/NAME"
    if url and "://" not in url and not url.startswith("sqlite:"):
        return URL.create("sqlite", database=url)
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise UsageError(f"{url!r} is not a database URL", hint) from error
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise UsageError(f"a leaderboard cannot live in {backend!r}", hint)
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise UsageError("a leaderboard needs a file: one in memory would be lost", hint)
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def sqlite_file(url: URL) -> Path | None:
    """The file of a SQLite URL; None for PostgreSQL."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def place(url: URL) -> str:
    """Where a board lies, for people: a file, or a URL without its password."""
    return str(sqlite_file(url) or url.render_as_string(hide_password=True))


def _engine(url: URL) -> Engine:
    sqlite = url.get_backend_name() == "sqlite"
    try:
        engine = sa.create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS} if sqlite else {})
    except NoSuchModuleError as error:
        raise UsageError(f"SQLAlchemy knows no driver {url.drivername!r}", "postgresql+psycopg://...") from error
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the driver of {url.drivername!r} is not installed: {error.name}", "pip install 'superbench[postgres]'"
        ) from error
    if sqlite:
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _pool_entry: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions of its own
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _version(connection: Connection, where: str) -> str | None:
    """The schema version of a database; None where it is empty."""
    inspector = sa.inspect(connection)
    found = None
    if inspector.has_table(VERSION_TABLE):
        found = connection.scalar(sa.select(sa.column("version_num")).select_from(sa.table(VERSION_TABLE)))
    if found is None and inspector.has_table("record"):
        raise IntegrityError(
            f"{where} has a table 'record' that is no leaderboard's", "give another database with --database"
        )
    if found is not None and found not in REVISIONS:
        raise IntegrityError(
            f"{where} was written by a newer superbench: its schema is {found!r}, the newest known here {CURRENT!r}",
            "update superbench, or give another database with --database",
        )
    return None if found is None else str(found)


def _migrate(board: Board) -> None:
    from alembic import command
    from alembic.config import Config

    file = sqlite_file(board.engine.url)
    if file is not None:
        _write_ahead(file)
    config = Config()
    scripts = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    with board.writing() as connection:
        if _version(connection, board.where) == CURRENT:
            return  # another process was faster
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        rebuild_index(connection)


def _write_ahead(file: Path) -> None:
    """Switch a SQLite file to WAL, for good. SQLite itself does not wait here for others who do the same."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            with closing(sqlite3.connect(file, timeout=BUSY_SECONDS)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                _raise_named(error, str(file))
                raise
            time.sleep(0.05)


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _raise_named(cause: BaseException | None, where: str) -> None:
    """Raise our error for what a driver reports, told by its code and never by its text; return where it is none."""
    if isinstance(cause, sqlite3.Error):
        code = _primary_code(cause)
        busy = code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        resource = code in SQLITE_RESOURCE
        # an OperationalError without SQLite's code is the driver's own: a text that is no UTF-8
        own = isinstance(cause, sqlite3.OperationalError) and not hasattr(cause, "sqlite_errorcode")
        broken = own or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    else:
        state = getattr(cause, "sqlstate", None)  # PostgreSQL manual, appendix A; None: no server answered
        busy = state in ("55P03", "40001", "40P01")
        resource = state is None or state[:2] in ("08", "28", "3D", "53", "57", "58") or state in ("25006", "42501")
        broken = state is not None and state[:2] == "XX"
    if busy:
        raise BusyError(f"another process kept writing to {where} for {BUSY_SECONDS:g} s", LATER) from cause
    if resource:
        raise ResourceError(
            f"cannot use the database {where}: {cause}", f"see to disk and permissions; {LATER}"
        ) from cause
    if broken:
        mend = "restore a copy, or give another database with --database"
        raise IntegrityError(f"{where} is not a whole database: {cause}", mend) from cause
