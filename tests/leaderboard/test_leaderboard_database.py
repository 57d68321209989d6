"""Opening: old schemas are migrated, newer ones refused, and what fails is named."""

import os
import sqlite3
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import superbench_leaderboard
from superbench.contracts import Settings
from superbench.errors import BusyError, IntegrityError, MissingExtraError, ResourceError, UsageError
from superbench_leaderboard import database as databases
from superbench_leaderboard.database import open_board, parse_url, sqlite_file
from superbench_leaderboard.records import entries, record_result, verify
from superbench_leaderboard.schema import CURRENT, REVISIONS, VERSION_TABLE, metadata

GOLDEN = {path.stem.split("_")[-1]: path for path in Path(__file__).parent.glob("golden_schema_*.sql")}


def verified(board):
    with board.reading() as connection:
        return verify(connection)


def test_every_schema_version_has_its_golden_database():
    assert tuple(sorted(GOLDEN)) == REVISIONS


@pytest.mark.parametrize("version", REVISIONS)
def test_golden_database_opens_and_goes_on(version, tmp_path, make_result):
    file = tmp_path / "old.db"
    with closing(sqlite3.connect(file)) as raw:
        raw.executescript(GOLDEN[version].read_text(encoding="utf-8"))
        head = raw.execute("SELECT chain_sha FROM record WHERE seq = 3").fetchone()[0]
    board = open_board(f"sqlite:///{file}", create=False)
    assert verified(board).head == head
    with board.writing() as connection:
        found = [(entry.row.run_id, entry.row.value, entry.retracted_by) for entry in entries(connection)]
        assert found == [("r1", 2970 / 3081, 3), ("r2", 2985 / 3081, None)]
        assert record_result(connection, make_result(2985, run_id="r2").to_json()) == "known"
        assert record_result(connection, make_result(run_id="r3").to_json()) == "added"
    assert verified(board).records == 4


def test_migrations_make_the_tables_of_the_schema(board):
    with board.reading() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_revisions_are_the_migrations_in_order():
    scripts = ScriptDirectory(str(Path(databases.__file__).parent / "migrations"))
    assert tuple(script.revision for script in reversed(list(scripts.walk_revisions()))) == REVISIONS


def test_newer_schema_is_refused_and_left_alone(board, database):
    with closing(sqlite3.connect(board.where)) as raw:
        raw.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0999'")
        raw.commit()
    before = Path(board.where).read_bytes()
    with pytest.raises(IntegrityError, match=r"newer superbench.*'0999'.*" + CURRENT) as caught:
        open_board(database)
    assert "update superbench" in caught.value.hint
    assert Path(board.where).read_bytes() == before


def test_somebody_elses_tables_are_refused(tmp_path):
    file = tmp_path / "music.db"
    with closing(sqlite3.connect(file)) as raw:
        raw.execute("CREATE TABLE record (title TEXT)")
        raw.commit()
    with pytest.raises(IntegrityError, match="no leaderboard's"):
        open_board(f"sqlite:///{file}")


def test_file_that_is_no_database_is_refused(tmp_path):
    file = tmp_path / "notes.db"
    file.write_text("not a database, but long enough to be looked at as one " * 20)
    with pytest.raises(IntegrityError, match="not a whole database"):
        open_board(f"sqlite:///{file}")


def test_sqlite_is_set_up_to_lose_nothing(board):
    with board.writing() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "busy_timeout", "synchronous", "foreign_keys")
        }
    assert found == {"journal_mode": "wal", "busy_timeout": 30000, "synchronous": 2, "foreign_keys": 1}


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "postgresql+nope://x/y", ""])
def test_url_that_is_no_board_is_a_usage_error(url):
    with pytest.raises(UsageError):
        open_board(url)


def test_missing_driver_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError) as caught:
        open_board("postgresql://localhost/nothing")
    assert "superbench[postgres]" in caught.value.hint


def test_reading_makes_no_board(tmp_path):
    with pytest.raises(UsageError, match="no leaderboard at"):
        open_board(f"sqlite:///{tmp_path / 'typo' / 'board.db'}", create=False)
    assert list(tmp_path.iterdir()) == []


def test_place_with_spaces_quotes_and_percents(tmp_path, make_result):
    board = open_board(f"sqlite:///{tmp_path / 'my boards' / chr(39) / '50%s.db'}")
    with board.writing() as connection:
        record_result(connection, make_result().to_json())
    assert verified(board).records == 1


def test_writer_waits_for_another_one(board, put, make_result):
    with closing(sqlite3.connect(board.where, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.5, other.execute, ["COMMIT"])
        release.start()
        began = time.monotonic()
        assert put(make_result()) == ["added"]
        assert time.monotonic() - began > 0.3
        release.join()


def test_new_board_waits_for_another_writer_of_its_file(tmp_path):
    """SQLite says at once that it is busy when a second connection asks for WAL: opening must ask again."""
    file = tmp_path / "board.db"
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("CREATE TABLE unrelated (x)")
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.5, other.execute, ["COMMIT"])
        release.start()
        assert verified(open_board(f"sqlite:///{file}")).records == 0
        release.join()


def test_writer_gives_up_with_the_way_back_while_readers_read(monkeypatch, database, board, put, make_result, tmp_path):
    put(make_result(run_id="r1"))
    monkeypatch.setattr(databases, "BUSY_SECONDS", 0.1)
    settings = Settings(store=tmp_path, runs=tmp_path, database=database)
    with closing(sqlite3.connect(board.where, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError) as caught:
            superbench_leaderboard.superbench_result(make_result(run_id="r2", folder="runs/ks/x/r2"), settings)
        assert "superbench leaderboard add runs/ks/x/r2" in caught.value.hint
        assert board.where in caught.value.message
        assert verified(board).records == 1
    superbench_leaderboard.superbench_result(make_result(run_id="r2"), settings)
    assert verified(board).records == 2


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="file"):
        open_board(f"sqlite:///{tmp_path / 'file' / 'board.db'}")
    with pytest.raises(ResourceError, match="cannot use the database"):
        open_board(f"sqlite:///{tmp_path}")


@pytest.fixture
def powerless_folder():
    """A folder that the test may write into, then `lock()`: nobody's, so that root too feels it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        root = os.geteuid() == 0

        def lock():
            for path in (*Path(folder).iterdir(), Path(folder)):
                path.chmod(0o555)
            if root:
                os.seteuid(65534)

        yield Path(folder), lock
        if root:
            os.seteuid(0)
        Path(folder).chmod(0o777)


def test_unwritable_folder_is_named(powerless_folder):
    folder, lock = powerless_folder
    lock()
    with pytest.raises(ResourceError, match=str(folder)):
        open_board(f"sqlite:///{folder / 'board.db'}")
    with pytest.raises(ResourceError, match="sub"):
        open_board(f"sqlite:///{folder / 'sub' / 'board.db'}")


def test_unwritable_file_is_named(powerless_folder, make_result):
    folder, lock = powerless_folder
    url = f"sqlite:///{folder / 'board.db'}"
    open_board(url)
    lock()
    with pytest.raises(ResourceError, match=str(folder)), open_board(url).writing() as connection:
        record_result(connection, make_result().to_json())


def test_full_disk_leaves_whole_records_only(board, put, make_result):
    put(make_result(run_id="r1"))
    pages = {}

    def fill(connection, _pool_entry):
        pages["limit"] = connection.execute("PRAGMA max_page_count = 1").fetchone()[0]  # the pages it has now

    databases.event.listen(board.engine, "connect", fill)
    with pytest.raises(ResourceError, match="full"):
        put(*[make_result(run_id=f"big{number}", plan={"x": "y" * 50_000}) for number in range(3)])
    assert pages["limit"] > 1
    databases.event.remove(board.engine, "connect", fill)
    assert verified(board).records == 1
    assert put(make_result(run_id="r2")) == ["added"]


def test_plain_path_is_a_sqlite_file_whatever_is_in_it(tmp_path):
    file = tmp_path / "what? a #board.db"
    assert sqlite_file(parse_url(str(file))) == file
