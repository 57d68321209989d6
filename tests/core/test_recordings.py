"""What was found in recordings, remembered: what holds, what is read again, and what happens to a damaged file."""

from __future__ import annotations

import errno
import multiprocessing
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from superbench import audio, recordings
from superbench.contracts import Crop, Row
from superbench.places import places
from superbench.recordings import KnownRecordings

RATE = 16000
LONG_AGO = 10**18  # ns since 1970: the year 2001
FEED = {"rate": RATE, "resample": False}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "home" / "recordings.sqlite"


@pytest.fixture
def told():
    return []


@pytest.fixture
def open_known(file, told):
    """Open the file as a command does."""

    def open_file(**more):
        return KnownRecordings(file, tell=told.append, **more)

    return open_file


@pytest.fixture
def read(monkeypatch):
    """Take the names of the files whose sound was read since the last time."""
    names = []
    inspect = audio.inspect

    def noted(row, **feed):
        names.append(row.path.name)
        return inspect(row, **feed)

    monkeypatch.setattr(audio, "inspect", noted)

    def take():
        taken = sorted(names)
        names.clear()
        return taken

    return take


def write(path, seed=0, samples=RATE // 2, loud=0.1, rate=RATE, modified=LONG_AGO):
    noise = np.random.default_rng(seed).standard_normal(samples) * loud
    soundfile.write(path, noise.astype("float32"), rate, subtype="PCM_16")
    os.utime(path, ns=(modified, modified))
    return path


def row(path, **more):
    return Row(id=path.stem, path=path, **more)


def find(known, asked, **feed):
    """What a command finds of a row: known, or read."""
    feed = FEED | feed
    return known.recall(asked, **feed) or known.inspect(asked, **feed)


def found_by(opened, *rows, **feed):
    with opened as known:
        return [find(known, one, **feed) for one in rows]


def test_what_was_found_is_known_to_the_next_command(open_known, read, told, tmp_path, file):
    plain = row(write(tmp_path / "a.wav", 1))
    clipped = row(write(tmp_path / "b.wav", 2, loud=9.0), where="m.csv:7")
    cut = row(write(tmp_path / "c.wav", 3), start=7.0, end=7.5)  # times in a longer recording: a warning
    bank = row(write(tmp_path / "d.wav", 4), crop=Crop(seconds=0.1, bank=3))
    other_rate = row(write(tmp_path / "e.wav", 5, rate=8000))
    rows, feed = (plain, clipped, cut, bank, other_rate), {"resample": True, "gain_db": -3.0}
    truth = [audio.inspect(one, rate=RATE, **feed) for one in rows]
    assert [len(found) for found, _ in truth] == [1, 1, 1, 3, 1]
    assert [[p.kind for p in problems] for _, problems in truth] == [[], ["clipped"], ["already-cut"], [], []]
    read()
    assert found_by(open_known(), *rows, **feed) == truth
    assert read() == ["a.wav", "b.wav", "c.wav", "d.wav", "e.wav"]
    assert found_by(open_known(), *rows, **feed) == truth
    assert (read(), told) == ([], [])
    assert sorted(file.parent.iterdir()) == [file]


def test_a_problem_is_told_with_the_place_of_the_row_that_asks(open_known, read, tmp_path):
    path = write(tmp_path / "loud.wav", loud=9.0)
    found_by(open_known(), row(path, where="old.csv:2"))
    ((_, (problem,)),) = found_by(open_known(), replace(row(path), id="another", where="new.csv:9"))
    assert read() == ["loud.wav"]
    assert problem.where == f"another (new.csv:9: {path})"


CHANGES = {
    "other samples": lambda p: write(p, seed=9),
    "other samples, and the old time again": lambda p: write(p, seed=9, modified=LONG_AGO),
    "longer": lambda p: write(p, samples=RATE),
    "a later time": lambda p: os.utime(p, ns=(LONG_AGO, LONG_AGO + 1)),
    "another file of the same bytes": lambda p: p.with_name("new").write_bytes(p.read_bytes()) and renamed(p),
}


def renamed(path):
    os.utime(path.with_name("new"), ns=(LONG_AGO, LONG_AGO))
    path.with_name("new").replace(path)


@pytest.mark.parametrize("case", CHANGES)
def test_a_file_that_changed_is_read_again(case, open_known, read, tmp_path):
    path = write(tmp_path / "a.wav")
    found_by(open_known(), row(path))
    CHANGES[case](path)
    (found,) = found_by(open_known(), row(path))
    assert read() == ["a.wav", "a.wav"]
    assert found == audio.inspect(row(path), **FEED)
    read()
    found_by(open_known(), row(path))
    assert read() == []  # the old row has gone


@pytest.mark.parametrize(
    ("changes", "feed"),
    [
        ({"start": 0.1}, {}),
        ({"end": 0.25}, {}),
        ({"crop": Crop(seconds=0.1, bank=2)}, {}),
        ({}, {"rate": 8000, "resample": True}),
        ({}, {"resample": True}),
        ({}, {"gain_db": 1.0}),
    ],
)
def test_who_asks_for_another_thing_is_told_another_thing(changes, feed, open_known, read, tmp_path):
    asked = row(write(tmp_path / "a.wav"))
    found_by(open_known(), asked)
    (found,) = found_by(open_known(), replace(asked, **changes), **feed)
    assert read() == ["a.wav", "a.wav"]
    assert found == audio.inspect(replace(asked, **changes), **(FEED | feed))


def test_crops_depend_on_the_id_and_wholes_do_not(open_known, read, tmp_path):
    whole = row(write(tmp_path / "a.wav"))
    cropped = replace(whole, crop=Crop(seconds=0.1, bank=2))
    found_by(open_known(), whole, cropped)
    read()
    first, second = found_by(open_known(), replace(whole, id="x"), replace(cropped, id="x"))
    assert read() == ["a.wav"]
    assert first == audio.inspect(replace(whole, id="x"), **FEED)
    assert second == audio.inspect(replace(cropped, id="x"), **FEED)


def test_another_source_or_another_library_reads_again(open_known, read, tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav")
    found_by(open_known(), row(path))
    source = tmp_path / "audio.py"
    source.write_text(Path(audio.__file__).read_text() + "# another comment\n")
    with monkeypatch.context() as patch:
        patch.setattr(audio, "__file__", str(source))
        found_by(open_known(), row(path))
    with monkeypatch.context() as patch:
        patch.setattr(soundfile, "__libsndfile_version__", "0.0.1")
        found_by(open_known(), row(path))
    assert read() == ["a.wav"] * 3


def test_errors_are_not_remembered(open_known, read, tmp_path):
    stereo, gone = tmp_path / "stereo.wav", tmp_path / "gone.wav"
    soundfile.write(stereo, np.zeros((RATE, 2), "float32"), RATE)
    os.utime(stereo, ns=(LONG_AGO, LONG_AGO))
    rows = (row(stereo), row(gone), row(write(tmp_path / "slow.wav", rate=8000)), row(tmp_path / "nul\0.wav"))
    first = found_by(open_known(), *rows)
    assert [[p.kind for p in problems] for _, problems in first] == [["stereo"], ["missing"], ["rate"], ["unreadable"]]
    assert found_by(open_known(), *rows) == first
    assert read() == sorted(["stereo.wav", "gone.wav", "slow.wav", "nul\0.wav"] * 2)


@pytest.mark.parametrize(("age", "kept"), [(1.9, False), (-60.0, False), (2.1, True)])
def test_a_file_modified_just_before_is_not_remembered(age, kept, open_known, read, tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav")
    monkeypatch.setattr(recordings.time, "time_ns", lambda: LONG_AGO + round(age * 1e9))
    found_by(open_known(), row(path))
    found_by(open_known(), row(path))
    assert read() == ["a.wav"] * (1 if kept else 2)


def test_a_file_that_changes_while_it_is_read_is_not_remembered(open_known, tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav")
    inspect = audio.inspect

    def slow(asked, **feed):
        found = inspect(asked, **feed)
        write(path, seed=9)
        return found

    monkeypatch.setattr(audio, "inspect", slow)
    found_by(open_known(), row(path))
    monkeypatch.setattr(audio, "inspect", inspect)
    assert found_by(open_known(), row(path)) == [inspect(row(path), **FEED)]


def test_reread_reads_everything_and_refreshes_what_is_known(open_known, read, told, tmp_path, file):
    path = write(tmp_path / "a.wav")
    truth = found_by(open_known(), row(path))
    lie(file, b"a lie")
    assert read() == ["a.wav"]
    assert found_by(open_known(reread=True), row(path)) == truth
    assert read() == ["a.wav"]
    assert found_by(open_known(), row(path)) == truth
    assert (read(), told) == ([], [])


def lie(file, content):
    """Other content in every row, with the checksum of what was there."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE recording SET found = ?", (content,))


def test_without_a_file_nothing_is_known(read, tmp_path):
    path = write(tmp_path / "a.wav")
    found_by(KnownRecordings(None), row(path))
    found_by(KnownRecordings(None), row(path))
    assert read() == ["a.wav", "a.wav"]
    assert places(tmp_path / "home").recordings == tmp_path / "home" / "recordings.sqlite"


def another(file):
    file.unlink()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE recording (name TEXT)")


DAMAGE = {
    "a row": lambda file: lie(file, b"[[],[]]"),
    "a row of another type": lambda file: lie(file, 7),
    "cut in half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "something else": lambda file: file.write_bytes(b"PK\3\4" * 2000),
    "another database": another,
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_file_is_put_aside_told_and_begun_anew(case, open_known, read, told, tmp_path, file):
    rows = [row(write(tmp_path / f"{i}.wav", i)) for i in range(30)]
    truth = found_by(open_known(), *rows)
    DAMAGE[case](file)
    damaged = file.read_bytes()
    assert found_by(open_known(), *rows) == truth
    (aside,) = file.parent.glob("recordings.corrupt-*")
    assert aside.read_bytes() == damaged
    (said,) = told
    assert said.startswith(f"{file} was damaged (")
    assert said.endswith(f") and is put aside as {aside.name}: recordings are read again")
    read()
    assert found_by(open_known(), *rows) == truth
    assert (read(), len(told)) == ([], 1)


def test_a_file_that_is_damaged_twice_in_one_command_is_used_no_more(open_known, read, told, tmp_path, file):
    asked = row(write(tmp_path / "a.wav"))
    with open_known() as known:
        for _ in range(2):
            find(known, asked)
            find(known, asked)  # writes what the one before found
            lie(file, b"a lie")
        assert find(known, asked) == find(known, asked) == audio.inspect(asked, **FEED)
    assert read() == ["a.wav"] * 5
    assert [said.rpartition(": ")[2] for said in told] == ["recordings are read again"] * 2 + [
        f"{file} was damaged twice"
    ]


def test_no_flipped_bit_changes_what_is_found(open_known, tmp_path, file):
    rows = [row(write(tmp_path / f"{i}.wav", i, loud=9.0 if i % 3 else 0.1)) for i in range(6)]
    truth = found_by(open_known(), *rows)
    whole = file.read_bytes()
    for place in [*range(0, 120, 2), *range(120, len(whole), 61)]:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        assert found_by(open_known(), *rows) == truth, f"byte {place}"
        for left in file.parent.iterdir():
            left.unlink()


def test_a_file_that_cannot_be_used_is_told_once_and_left_alone(open_known, read, told, tmp_path, file):
    rows = [row(write(tmp_path / f"{i}.wav", i)) for i in range(3)]
    file.parent.write_text("in the way of the home")
    truth = [audio.inspect(one, **FEED) for one in rows]
    assert found_by(open_known(), *rows) == truth
    (said,) = told
    assert said.startswith("what was found in recordings is not remembered, and the next command reads them again: ")
    assert said.endswith((os.strerror(errno.EEXIST), os.strerror(errno.ENOTDIR)))


def test_a_file_that_another_process_keeps_is_told_and_not_put_aside(open_known, told, tmp_path, file, monkeypatch):
    first, second = (row(write(tmp_path / f"{i}.wav", i)) for i in range(2))
    found_by(open_known(), first)
    monkeypatch.setattr(recordings, "BUSY_SECONDS", 0.0)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert found_by(open_known(), first, second) == [audio.inspect(one, **FEED) for one in (first, second)]
    assert [said.rpartition(": ")[2] for said in told] == ["database is locked"]
    assert sorted(file.parent.iterdir()) == [file]


def test_what_is_found_before_a_kill_is_kept_by_the_hundreds(open_known, read, tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "ROWS_AT_ONCE", 4)
    rows = [row(write(tmp_path / f"{i}.wav", i)) for i in range(10)]
    killed = open_known()
    for one in rows:
        killed.inspect(one, **FEED)  # and it is never closed
    read()
    found_by(open_known(), *rows)
    assert read() == ["8.wav", "9.wav"]


def test_what_one_task_found_is_known_to_the_next_task_of_a_command(open_known, read, tmp_path):
    asked = row(write(tmp_path / "a.wav"))
    with open_known() as known:
        assert find(known, asked) == find(known, asked)
    assert read() == ["a.wav"]


def test_threads_share_it(open_known, read, tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "ROWS_AT_ONCE", 3)
    rows = [row(write(tmp_path / f"{i}.wav", i)) for i in range(40)]
    truth = [audio.inspect(one, **FEED) for one in rows]
    with open_known() as known, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda one: find(known, one), rows)) == truth
    read()
    assert found_by(open_known(), *rows) == truth
    assert read() == []


def remember(file, paths, ready):
    ready.wait()
    told = []
    found_by(KnownRecordings(file, tell=told.append), *map(row, paths))
    assert told == []


def test_processes_share_it(open_known, read, tmp_path, file, told):
    paths = [write(tmp_path / f"{i}.wav", i) for i in range(40)]
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(2)
    halves = (paths[:25], paths[15:])
    processes = [context.Process(target=remember, args=(file, half, ready)) for half in halves]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    found_by(open_known(), *map(row, paths))
    assert (read(), told) == ([], [])
