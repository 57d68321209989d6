"""Many writers lose nothing; a writer killed anywhere leaves a whole board."""

import multiprocessing
import os
import signal
import sqlite3
from contextlib import closing

from sqlalchemy import event
from sqlalchemy.engine import Engine

from superbench_leaderboard.database import open_board
from superbench_leaderboard.records import entries, record_result, verify

WRITERS, WRITES = 4, 25
fork = multiprocessing.get_context("fork")


def test_four_writers_of_a_board_that_is_not_there_yet_lose_nothing(database, make_result):
    def write(writer):
        for number in range(WRITES):
            with open_board(database).writing() as connection:
                record_result(connection, make_result(number, run_id=f"{writer}-{number}").to_json())

    writers = [fork.Process(target=write, args=(writer,)) for writer in range(WRITERS)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert [process.exitcode for process in writers] == [0] * WRITERS
    with open_board(database, create=False).reading() as connection:
        assert verify(connection).records == WRITERS * WRITES
        run_ids = {entry.row.run_id for entry in entries(connection)}
    assert run_ids == {f"{writer}-{number}" for writer in range(WRITERS) for number in range(WRITES)}


def killed_at(step, database, data):
    """Record in a child that kills itself before its `step`-th statement (the commit counts). Did it live?"""

    def child():
        left = step

        def count(*_):
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        board = open_board(database)
        event.listen(board.engine, "before_cursor_execute", count)
        event.listen(board.engine, "commit", count)
        with board.writing() as connection:
            record_result(connection, data)

    process = fork.Process(target=child)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == 0


def test_killed_at_every_statement_of_a_recording(database, board, put, make_result):
    put(make_result(run_id="before"))
    data = make_result(run_id="killed").to_json()
    steps = 1
    while not killed_at(steps, database, data):
        with closing(sqlite3.connect(board.where)) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        with board.reading() as connection:
            assert verify(connection).records == 1
        steps += 1
    assert steps > 4  # begin, look-ups, two inserts and the commit were all tried
    assert put(make_result(run_id="killed")) == ["known"]
    with board.reading() as connection:
        assert verify(connection).records == 2


def test_killed_while_the_board_is_made(tmp_path, make_result):
    data = make_result().to_json()
    for step in range(1, 60, 4):
        database = f"sqlite:///{tmp_path / f'{step}.db'}"

        def child(database=database, step=step):
            left = step

            def count(*_):
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            event.listen(Engine, "before_cursor_execute", count)
            open_board(database)

        process = fork.Process(target=child)
        process.start()
        process.join()
        board = open_board(database)
        with board.writing() as connection:
            assert record_result(connection, data) == "added"
            assert verify(connection).records == 1
        if process.exitcode == 0:
            return
        assert process.exitcode == -signal.SIGKILL
    raise AssertionError("making a board took more statements than were tried")
