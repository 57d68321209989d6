"""The same promises on PostgreSQL, where a server is given by SUPERBENCH_TEST_POSTGRES (a URL)."""

import multiprocessing
import os
import secrets

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from superbench.errors import BusyError, IntegrityError, ResourceError
from superbench_leaderboard import database as databases
from superbench_leaderboard.database import open_board, parse_url
from superbench_leaderboard.published_lines import SOURCES, import_lines, published_lines, shipped, verify_published
from superbench_leaderboard.records import entries, rebuild_index, record_result, retract, verify
from superbench_leaderboard.schema import VERSION_TABLE

SERVER = os.environ.get("SUPERBENCH_TEST_POSTGRES", "")
pytestmark = pytest.mark.skipif(
    not SERVER, reason="SUPERBENCH_TEST_POSTGRES is not set: no PostgreSQL server to test on"
)
fork = multiprocessing.get_context("fork")


@pytest.fixture
def database():
    """A schema of the server's for one test alone."""
    url, name = parse_url(SERVER), f"superbench_{secrets.token_hex(6)}"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema(name))
    yield url.update_query_dict({"options": f"-csearch_path={name}"}).render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(sa.schema.DropSchema(name, cascade=True))
    engine.dispose()


def test_recorded_once_retracted_rebuilt_and_verified(database, board, put, make_result):
    names = ["x" * 300, "=cmd()", "a|b", "😀 שלום é"]
    results = [make_result(run_id=f"r{number}", upstream=name) for number, name in enumerate(names)]
    assert put(*results) == ["added"] * 4
    assert put(results[0]) == ["known"]
    with pytest.raises(IntegrityError, match="another score"):
        put(make_result(1, run_id="r0"))
    with open_board(database, create=False).writing() as connection:
        retract(connection, "r1", "wrong corpus")
        before = entries(connection)
        assert rebuild_index(connection) == 4
        assert entries(connection) == before
        assert [entry.row.upstream for entry in before] == names
        assert verify(connection).records == 5


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE record SET body = '{}'",
        "DELETE FROM record",
        "TRUNCATE record CASCADE",
        "INSERT INTO record SELECT seq + 2, run_id, kind, 1, body_sha, chain_sha, prev_sha, body FROM record",
        "INSERT INTO record SELECT seq + 1, run_id, kind, 1, body_sha, prev_sha, body_sha, body FROM record",
    ],
)
def test_records_are_append_only(board, put, make_result, statement):
    put(make_result())
    with pytest.raises(DBAPIError), board.writing() as connection:
        connection.exec_driver_sql(statement)
    with board.reading() as connection:
        assert verify(connection).records == 1


def test_four_writers_of_a_board_that_is_not_there_yet_lose_nothing(database, make_result):
    def write(writer):
        for number in range(25):
            with open_board(database).writing() as connection:
                record_result(connection, make_result(number, run_id=f"{writer}-{number}").to_json())

    writers = [fork.Process(target=write, args=(writer,)) for writer in range(4)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert [process.exitcode for process in writers] == [0] * 4
    with open_board(database).reading() as connection:
        assert verify(connection).records == len(entries(connection)) == 100


def test_writer_gives_up_after_the_wait(monkeypatch, board, put, make_result):
    monkeypatch.setattr(databases, "BUSY_SECONDS", 0.1)
    with board.writing(), pytest.raises(BusyError):
        put(make_result())
    assert put(make_result()) == ["added"]


def test_published_lines_are_imported_once_and_verified(board):
    for new, known in ((407, 0), (0, 407)):
        with board.writing() as connection:
            done = import_lines(connection, "superb")
        assert (done.new, done.known) == (new, known)
    with board.reading() as connection:
        assert set(published_lines(connection)) == set(shipped(SOURCES["superb"]))
        assert verify_published(connection) == 407
    with board.writing() as connection:
        connection.exec_driver_sql("UPDATE published SET value = 99 WHERE system = 'NPC' AND task = 'ks'")
    with board.reading() as connection, pytest.raises(IntegrityError, match=r"'NPC', ks accuracy .*value = 99"):
        verify_published(connection)


def test_newer_schema_is_refused(database, board):
    with board.writing() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '0999'")
    with pytest.raises(IntegrityError, match="newer superbench"):
        open_board(database)


def test_server_that_is_not_there_is_named_without_the_password():
    url = parse_url(SERVER).set(host="127.0.0.1", port=1, password="secret").render_as_string(hide_password=False)
    with pytest.raises(ResourceError, match=r"127\.0\.0\.1") as caught:
        open_board(url)
    assert "secret" not in str(caught.value)
