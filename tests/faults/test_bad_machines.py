"""Full disks, folders that cannot be written, damaged files, busy databases: exit codes 5, 6 and 7, and a way back."""

from __future__ import annotations

import errno
import json
import shutil
import sqlite3
from collections import namedtuple
from contextlib import closing
from pathlib import Path

import pytest

from superbench.features.store import MARGIN

RUN = "run -q -u fbank_no_cmvn -t ks --data {at}/m.csv --steps 4 --eval-every 2 --lr 1e-2"


@pytest.fixture
def score(superbench, bench):
    """Run to the end in the bench's home and return the result."""

    def run():
        ended = superbench("--home", bench.home, *RUN.format(at=bench.folder).split(), "--json")
        assert ended.code == 0, ended.err
        return ended.json[0]

    return run


def only(home, pattern):
    (found,) = home.rglob(pattern)
    return found


def written(home):
    return {p.name: p.read_bytes() for p in home.rglob("seed0/*") if p.name != "result.json"}


# name: the option whose place is a file, where a folder must be; the words the message must hold
IN_THE_WAY = {
    "home": ("--home {at}/way", ("way", "could not be written", "Not a directory")),
    "store": ("--store-dir {at}/way/store", ("feature store", "way", "--store-dir DIR")),
    "runs": ("--out {at}/way", ("way", "could not be written")),
}


@pytest.mark.parametrize("part", IN_THE_WAY)
def test_a_place_that_cannot_be_written(part, bench, refused):
    option, words = IN_THE_WAY[part]
    bench.write("way", "a file")
    refused(f"{RUN} {option}", 5, words)
    assert bench.path("way").read_text() == "a file"


def test_a_database_that_cannot_be_written_keeps_the_result_to_be_added_later(bench, superbench):
    bench.write("way", "a file")
    command = f"{RUN} --database {{at}}/way/board.sqlite --json".format(at=bench.folder).split()
    ended = superbench("--home", bench.home, *command)
    assert (ended.code, len(ended.json)) == (5, 1)
    assert "leaderboard add" in ended.err
    folder = only(bench.home, "result.json").parent
    assert superbench("--home", bench.home, "leaderboard", "add", folder).code == 0
    assert ended.json[0]["upstream"] in superbench("--home", bench.home, "leaderboard", "show").out


def test_a_busy_database_keeps_the_result_to_be_added_later(bench, superbench, score, monkeypatch):
    import superbench_leaderboard.database

    score()
    monkeypatch.setattr(superbench_leaderboard.database, "BUSY_SECONDS", 0.1)
    command = [*RUN.format(at=bench.folder).split(), "--seeds", "1", "--json"]
    with closing(sqlite3.connect(bench.home / "leaderboard.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ended = superbench("--home", bench.home, *command)
    assert (ended.code, ended.json[0]["seed"]) == (6, 1)
    assert "another process kept writing" in ended.err
    assert "leaderboard add" in ended.err
    again = superbench("--home", bench.home, *command)
    assert (again.code, again.json) == (0, ended.json)


def test_a_database_that_is_none(bench, superbench):
    bench.home.mkdir()
    (bench.home / "leaderboard.sqlite").write_text("these are no tables\n" * 60)
    ended = superbench("--home", bench.home, *RUN.format(at=bench.folder).split(), "--json")
    assert (ended.code, len(ended.json)) == (7, 1)
    assert "not a whole database" in ended.err


def test_too_little_room_is_said_before_anything_is_computed(bench, refused, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, MARGIN + 2**10))
    refused(RUN, 5, ("1.0 KiB free", "22.5 KiB more", "--store-dir DIR"))
    assert not list(bench.home.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("*.safetensors", ("could not be written", "No space left", "finished shards are kept")),
        ("*.checkpoint", ("could not be written", "No space left", "a run goes on where it was")),
        ("head.safetensors", ("head.safetensors", "No space left")),
        ("result.json", ("result.json", "No space left")),
    ],
)
def test_a_disk_that_fills_up_leaves_nothing_half_done(name, words, bench, refused, score, superbench, monkeypatch):
    expected = superbench("--home", bench.home.with_name("roomy"), *RUN.format(at=bench.folder).split(), "--json").json[
        0
    ]
    replace = Path.replace

    def full(path, target):
        if Path(target).match(name):
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full)
    refused(RUN, 5, words)
    assert not list(bench.home.rglob("*.tmp"))
    assert not list(bench.home.rglob(name))
    monkeypatch.setattr(Path, "replace", replace)
    assert score()["scores"] == expected["scores"]
    assert written(bench.home) == written(bench.home.with_name("roomy"))


def flip_last_bit(content):
    return content[:-1] + bytes([content[-1] ^ 1])


def flip_in_the_header(content):
    return content[:20] + bytes([content[20] ^ 1]) + content[21:]


DAMAGE = {
    "one bit of the features": flip_last_bit,
    "one bit of the header": flip_in_the_header,
    "cut in half": lambda content: content[: len(content) // 2],
    "cut in the header": lambda content: content[:11],
    "no bytes": lambda content: b"",
    "something else": lambda content: b"PK\3\4" * 100,
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_features_are_put_aside_told_and_computed_again(case, bench, score):
    expected = score()
    before = written(bench.home)
    shard = only(bench.home / "store", "*.safetensors")
    whole = shard.read_bytes()
    shard.write_bytes(DAMAGE[case](whole))
    shutil.rmtree(bench.home / "runs")
    (bench.home / "leaderboard.sqlite").unlink()
    again = score()
    assert again["features"]["computed"] == again["features"]["segments"] == 24
    assert [w.split(":")[0].split(" (")[0] for w in again["warnings"]] == ["damaged features put aside"]
    assert (again["scores"], written(bench.home)) == (expected["scores"], before)
    assert shard.read_bytes() == whole
    assert only(bench.home / "store", "*.corrupt-*").read_bytes() == DAMAGE[case](whole)


def test_the_state_of_a_candidate_that_is_damaged_is_put_aside_and_told(bench, score, superbench):
    result = score()
    state = only(bench.home, "*.checkpoint")
    only(bench.home, "result.json").unlink()
    whole = state.read_bytes()
    state.write_bytes(whole[: len(whole) // 2])
    ended = superbench("--home", bench.home, *RUN.format(at=bench.folder).split())
    assert (ended.code, state.name in ended.err, "put aside" in ended.err) == (0, True, True)
    assert only(bench.home, "*.corrupt-*").read_bytes() == whole[: len(whole) // 2]
    assert score()["scores"] == result["scores"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda result: json.dumps({**result, "schema": 99}), ("schema 99", "reads 2")),
        (lambda result: json.dumps({k: v for k, v in result.items() if k != "scores"}), ("damaged", "checksum")),
        (lambda result: json.dumps({**result, "seed": 1}), ("damaged", "checksum")),
        (lambda result: json.dumps(result)[:500], ("damaged",)),
        (lambda result: "[]", ("damaged",)),
        (lambda result: "", ("damaged",)),
    ],
    ids=["newer schema", "field missing", "edited", "cut off", "a list", "empty"],
)
def test_a_result_that_is_not_what_was_written(change, words, bench, score, superbench):
    score()
    path = only(bench.home, "result.json")
    path.write_text(change(json.loads(path.read_text())))
    ended = superbench("--home", bench.home, *RUN.format(at=bench.folder).split())
    assert ended.code == 7, ended.err
    assert [w for w in (*words, str(path)) if w not in ended.err] == []


@pytest.mark.parametrize("name", ["predictions.jsonl", "predictions.dev.jsonl", "head.safetensors"])
def test_a_finished_run_of_which_a_file_is_not_what_was_written(name, bench, score, superbench):
    first = score()
    path = only(bench.home, name)
    assert sorted(first["files"]) == sorted(written(bench.home))
    path.write_bytes(flip_last_bit(path.read_bytes()))
    ended = superbench("--home", bench.home, *RUN.format(at=bench.folder).split())
    assert (ended.code, f"{path} is not what was written" in ended.err) == (7, True), ended.err
    shutil.move(path.parent, bench.path("away"))  # as the hint says
    assert score()["files"] == first["files"]
