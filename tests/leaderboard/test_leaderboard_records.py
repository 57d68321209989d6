"""Records: once each, chained, never changed; the index follows from them."""

import hashlib
import json
import sqlite3
from contextlib import closing

import pytest
import sqlalchemy as sa

from superbench.errors import IntegrityError, UsageError
from superbench_leaderboard.records import (
    GENESIS,
    append,
    chain_end,
    entries,
    rebuild_index,
    record_result,
    retract,
    verify,
)
from superbench_leaderboard.schema import record


@pytest.fixture
def raw(board):
    """The database as a stranger's tool opens it."""
    with closing(sqlite3.connect(board.where)) as connection:
        yield connection


def check(board, head=""):
    with board.reading() as connection:
        return verify(connection, head)


def test_same_result_twice_is_one_record(board, put, make_result):
    assert put(make_result(), make_result()) == ["added", "known"]
    assert put(make_result(timings={"features": 9.0}, finished="2027-01-01T00:00:00Z")) == ["known"]
    assert check(board).records == 1


def test_same_run_with_another_score_is_refused(board, put, make_result):
    put(make_result(2970))
    with pytest.raises(IntegrityError, match="another score"):
        put(make_result(2971))
    with pytest.raises(IntegrityError, match="another score"):
        put(make_result(2970, data={"sha": "e" * 64}))
    assert check(board).records == 1


def test_refused_result_undoes_its_whole_transaction(board, put, make_result):
    with pytest.raises(IntegrityError, match="label"):
        put(make_result(run_id="good"), make_result(run_id="bad", label="best"))
    assert check(board).records == 0


def test_chain_is_as_documented(board, put, make_result):
    put(make_result(run_id="r1"), make_result(run_id="r2"))
    previous = GENESIS
    with board.reading() as connection:
        rows = connection.execute(sa.select(record).order_by(record.c.seq)).all()
    for row in rows:
        body_sha = hashlib.sha256(row.body.encode()).hexdigest()
        chain_sha = hashlib.sha256((previous + body_sha + row.run_id).encode()).hexdigest()
        assert (row.body_sha, row.prev_sha, row.chain_sha) == (body_sha, previous, chain_sha)
        previous = chain_sha
    assert check(board).head == previous
    assert json.loads(rows[0].body)["result"]["scores"][0]["numerator"] == 2970


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE record SET body = '{}'",
        "DELETE FROM record",
        "INSERT OR REPLACE INTO record SELECT seq, run_id, 'note', 1, body_sha, prev_sha, chain_sha, '{}' FROM record",
        "INSERT INTO record SELECT seq + 2, run_id, kind, 1, body_sha, chain_sha, prev_sha, body FROM record",
        "INSERT INTO record SELECT seq + 1, run_id, kind, 1, body_sha, prev_sha, body_sha, body FROM record",
    ],
)
def test_records_are_append_only(board, put, make_result, raw, statement):
    put(make_result())
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute(statement)
    assert check(board).records == 1


@pytest.mark.parametrize(
    ("tampering", "said"),
    [
        ("UPDATE record SET body = replace(body, '2970', '3000') WHERE seq = 2", r"record 2 .*its body"),
        ("UPDATE record SET kind = 'note' WHERE seq = 2", r"record 2 .*its kind"),
        ("UPDATE record SET run_id = 'x' WHERE seq = 2", r"record 2 .*its link"),
        ("UPDATE record SET prev_sha = body_sha WHERE seq = 2", r"record 2 .*does not follow"),
        ("DELETE FROM record WHERE seq = 2", r"record 2 is missing"),
        ("UPDATE result SET value = 0.99 WHERE seq = 2", r"index row of record 2"),
        ("DELETE FROM result WHERE seq = 2", r"index row of record 2"),
        ("UPDATE result SET retracted_by = 1 WHERE seq = 2", r"index row of record 2"),
    ],
)
def test_tampering_is_found_and_named(board, put, make_result, raw, tampering, said):
    put(*[make_result(run_id=f"r{number}") for number in range(3)])
    check(board)
    raw.executescript("DROP TRIGGER record_no_update; DROP TRIGGER record_no_delete; PRAGMA foreign_keys = OFF")
    raw.execute(tampering)
    raw.commit()
    with pytest.raises(IntegrityError, match=said):
        check(board)


def test_cut_tail_is_seen_only_with_a_head_kept_elsewhere(board, put, make_result, raw):
    put(make_result(run_id="r1"))
    old = check(board).head
    put(make_result(run_id="r2"))
    head = check(board).head
    assert check(board, old[:8]).head == head == check(board, GENESIS).head
    raw.executescript(
        "DROP TRIGGER record_no_delete; DELETE FROM result WHERE seq = 2; DELETE FROM record WHERE seq = 2"
    )
    assert check(board).head == old
    with pytest.raises(IntegrityError, match="cut off"):
        check(board, head)


def test_body_chained_by_hand_but_no_result_is_named(board):
    with board.writing() as connection:
        append(connection, "result", "r", {"result": ["not", "one"]})
    with pytest.raises(IntegrityError, match="record 1"):
        check(board)


def test_retraction_is_a_record_and_the_result_stays(board, put, make_result):
    put(make_result(run_id="r1"), make_result(run_id="r2"))
    with board.writing() as connection:
        assert retract(connection, "r1", "wrong corpus") == 3
        assert [entry.retracted_by for entry in entries(connection)] == [3, None]
    assert check(board).records == 3
    for run_id, why, said in [("r1", "again", "no run 'r1'"), ("r3", "typo", "no run 'r3'"), ("r2", "  ", "reason")]:
        with pytest.raises(UsageError, match=said), board.writing() as connection:
            retract(connection, run_id, why)


def test_retracted_score_stays_retracted_and_a_new_score_may_take_its_place(board, put, make_result):
    put(make_result(10))
    with board.writing() as connection:
        retract(connection, "0" * 64, "wrong labels")
    assert put(make_result(10), make_result(11), make_result(11), make_result(10)) == [
        "retracted",
        "added",
        "known",
        "retracted",
    ]
    with board.reading() as connection:
        live = [entry.row.value for entry in entries(connection) if entry.retracted_by is None]
    assert live == [11 / 3081]


def test_index_is_rebuilt_from_the_records(board, put, make_result, raw):
    put(make_result(run_id="r1"), make_result(run_id="r2"))
    with board.writing() as connection:
        retract(connection, "r1", "wrong corpus")
        append(connection, "note", "r2", {"text": "rerun on another machine"})
        before = entries(connection)
    raw.executescript("DELETE FROM result")
    with board.writing() as connection:
        assert rebuild_index(connection) == 2
        assert entries(connection) == before
    assert check(board).records == 4


def test_order_is_the_order_of_recording_whatever_the_clock_said(board, put, make_result):
    times = ["2038-01-19T03:14:08Z", "1970-01-01T00:00:00Z", "2026-01-01T00:00:00+05:45"]
    put(*[make_result(run_id=f"r{9 - number}", finished=time) for number, time in enumerate(times)])
    with board.reading() as connection:
        assert [entry.row.finished for entry in entries(connection)] == times


def test_names_come_back_as_they_went_in(board, put, make_result):
    names = ["x" * 300, "=cmd()", "a|b", "😀 שלום é", 'quo"te', "line\nbreak", "'; DROP TABLE record; --", "NA"]
    put(*[make_result(run_id=f"r{number}", upstream=name) for number, name in enumerate(names)])
    with board.reading() as connection:
        assert [entry.row.upstream for entry in entries(connection)] == names


def test_imports_are_marked(board, make_result):
    with board.writing() as connection:
        record_result(connection, make_result().to_json(), kind="import")
        assert connection.scalar(sa.select(record.c.kind)) == "import"
        assert record_result(connection, make_result().to_json()) == "known"
        assert chain_end(connection).records == 1
