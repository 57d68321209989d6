"""One bit turned over in any file that superbench keeps: it is found, and mended or refused; no score ever differs."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from driver import Order
from homes import CHECKPOINT, assert_same, files, flip, only

MEANS = "-t ks --lr 1e-2,1e-3 --steps 6 --eval-every 2"
FRAMES = "-t asr --head blstm:projector=4,hidden=4 --lr 1e-2,1e-3 --steps 6 --eval-every 2"
# Where in a file, from 0 at its first byte to 1 at its last, and which bit.
PLACES = ((0.0, 0), (0.02, 3), (0.15, 6), (0.4, 0), (0.6, 7), (0.8, 2), (0.97, 5), (1.0, 1))
DAMAGED = 7  # exit code


@pytest.fixture
def copies(tmp_path):
    """As many copies of a home as there are places to turn a bit over."""

    def make(home):
        return [Path(shutil.copytree(home, tmp_path / str(i))) for i in range(len(PLACES))]

    return make


@pytest.fixture
def again(driver, struck):
    """Run the same command in each of some homes."""

    def run(homes, given):
        return driver.run(*[Order(arguments=struck(home, given)) for home in homes])

    return run


@pytest.mark.parametrize("given", [MEANS, FRAMES], ids=["time means", "frames"])
def test_features(given, undisturbed, copies, again):
    """Found when they are read, put aside, told, and computed again."""
    homes = copies(undisturbed(given).home)
    damaged = {}
    for home, place in zip(homes, PLACES, strict=True):
        shutil.rmtree(home / "runs")
        shard = only(home / "store", "*.safetensors")
        flip(shard, *place)
        damaged[home] = shard.read_bytes()
    for home, ended in zip(homes, again(homes, given), strict=True):
        assert ended.code == 0, ended.err
        assert "put aside" in ended.err
        assert_same(home, undisturbed(given).contents, mended=True)
        (aside,) = home.rglob("*.corrupt-*")
        assert aside.name in ended.err
        assert aside.read_bytes() == damaged[home]


@pytest.mark.parametrize("given", [MEANS, FRAMES], ids=["time means", "frames"])
def test_candidates_that_are_done(given, undisturbed, copies, again):
    homes = copies(undisturbed(given).home)
    for home in homes:
        only(home, "result.json").unlink()
    _mended_candidates(homes, given, undisturbed, again)


@pytest.mark.parametrize("given", [MEANS, FRAMES], ids=["time means", "frames"])
def test_candidates_in_training(given, undisturbed, copies, again, driver, struck, tmp_path):
    home = tmp_path / "stopped"
    (ended,) = driver.run(Order(arguments=struck(home, given), fault=f"after:*{CHECKPOINT}:2"))
    assert ended.code == -signal.SIGKILL
    _mended_candidates(copies(home), given, undisturbed, again)


def _mended_candidates(homes, given, undisturbed, again):
    """Each damaged one is put aside, told, and trained again."""
    for home, place in zip(homes, PLACES, strict=True):
        flip(only(home, f"*{CHECKPOINT}"), *place)
    for home, ended in zip(homes, again(homes, given), strict=True):
        assert ended.code == 0, ended.err
        (aside,) = home.rglob("*.corrupt-*")
        assert aside.name in ended.err
        assert_same(home, undisturbed(given).contents, mended=True)


@pytest.mark.parametrize("name", ["predictions.jsonl", "predictions.dev.jsonl", "head.safetensors", "result.json"])
def test_a_finished_run(name, undisturbed, copies, again):
    """Refused, with nothing changed; and what the message asks for mends it."""
    homes = copies(undisturbed(MEANS).home)
    for home, place in zip(homes, PLACES, strict=True):
        flip(only(home, name), *place)
    before = [files(home / "runs") for home in homes]
    refused = again(homes, MEANS)
    assert [files(home / "runs") for home in homes] == before
    for home, ended in zip(homes, refused, strict=True):
        damaged = only(home, name)
        assert ended.code == DAMAGED, ended.err
        assert str(damaged) in ended.err
        assert "run the command again" in ended.err
        assert "Traceback" not in ended.err
        damaged.parent.rename(home / "moved away")
    for home, ended in zip(homes, again(homes, MEANS), strict=True):
        assert (ended.code, ended.err) == (0, "")
        shutil.rmtree(home / "moved away")
        assert_same(home, undisturbed(MEANS).contents)


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "killed"])
def test_a_plan(finished, undisturbed, copies, again, driver, struck, tmp_path):
    """Written anew, or refused."""
    home = undisturbed(MEANS).home
    if not finished:
        home = tmp_path / "stopped"
        driver.run(Order(arguments=struck(home, MEANS), fault="before:result.json:1"))
    homes = copies(home)
    for home, place in zip(homes, PLACES, strict=True):
        flip(only(home, "plan.json"), *place)
    for home, ended in zip(homes, again(homes, MEANS), strict=True):
        if ended.code == 0:
            assert_same(home, undisturbed(MEANS).contents)
        else:
            assert (ended.code, str(only(home, "plan.json")) in ended.err) == (DAMAGED, True), ended.err


@pytest.mark.parametrize("given", [MEANS, FRAMES], ids=["time means", "frames"])
def test_whatever_else_is_kept_beside_the_features(given, undisturbed, copies, again):
    """An index, and facts about upstreams: no result rests on them."""
    home = undisturbed(given).home
    others = [p.relative_to(home) for p in home.rglob("store/**/*") if p.is_file() and p.suffix != ".safetensors"]
    for name in (n for n in others if (home / n).stat().st_size):
        homes = copies(home)
        for copy, place in zip(homes, PLACES, strict=True):
            shutil.rmtree(copy / "runs")
            flip(copy / name, *place)
        for copy, ended in zip(homes, again(homes, given), strict=True):
            assert ended.code == 0, ended.err
            assert_same(copy, undisturbed(given).contents)
            shutil.rmtree(copy)


def test_features_that_a_streamed_run_finds_in_the_store(undisturbed, copies, again):
    """Computed when they are wanted, as if they were not there; where a shard is put aside, the result says so."""
    wide = f"{FRAMES} -u wide"
    streamed = f"{wide} --store pooled --memory 1MiB"
    homes = copies(undisturbed(wide).home)
    for home, place in zip(homes, PLACES, strict=True):
        shutil.rmtree(home / "runs")
        small, large = sorted((home / "store").rglob("*.safetensors"), key=lambda path: path.stat().st_size)
        small.unlink()  # else there is nothing to stream
        flip(large, *place)
    asides = []
    for home, ended in zip(homes, again(homes, streamed), strict=True):
        assert ended.code == 0, ended.err
        result = json.loads(only(home, "result.json").read_text())
        assert result["features"]["where"] == "streamed"
        found = [path.name for path in home.rglob("*.corrupt-*")]
        assert [name for name in found if name not in " ".join(result["warnings"])] == []
        asides += found
        for name in ("predictions.jsonl", "predictions.dev.jsonl", "head.safetensors"):
            assert only(home, name).read_bytes() == only(undisturbed(streamed).home, name).read_bytes()
    assert asides


def test_what_is_remembered_of_recordings(undisturbed, again, tmp_path):
    """Put aside and told, or of no importance."""
    home = undisturbed(MEANS).home
    with closing(sqlite3.connect(home / "recordings.sqlite")) as connection:
        assert connection.execute("select count(*) from recording").fetchone() == (68,)
    homes = [Path(shutil.copytree(home, tmp_path / str(number))) for number in range(16)]
    for number, copy in enumerate(homes):
        shutil.rmtree(copy / "runs")
        flip(copy / "recordings.sqlite", number / 15, number % 8)
    told = []
    for copy, ended in zip(homes, again(homes, MEANS), strict=True):
        aside = list(copy.glob("recordings.corrupt-*"))
        assert (ended.code, [a.name for a in aside if a.name not in ended.err]) == (0, []), ended.err
        told += aside
        for path in aside:
            path.unlink()
        assert_same(copy, undisturbed(MEANS).contents)
    assert told


def column(database: Path, query: str) -> bytes:
    with closing(sqlite3.connect(database)) as connection:
        ((found,),) = connection.execute(query).fetchall()
    return str(found).encode()


# What stands once in the database, of which the first byte is damaged.
RECORDED = {
    "hash of a record": "select body_sha from record",
    "end of the chain": "select chain_sha from record",
    "text of a record": "select substr(body, 100, 40) from record",
    "group of an indexed result": "select comparable_key from result",
}


@pytest.mark.parametrize("part", RECORDED)
def test_a_record_of_the_leaderboard(part, undisturbed, superbench, tmp_path):
    home = shutil.copytree(undisturbed(MEANS).home, tmp_path / "home")
    database = home / "leaderboard.sqlite"
    content, wanted = bytearray(database.read_bytes()), column(database, RECORDED[part])
    assert wanted in content
    content[content.index(wanted)] ^= 1
    database.write_bytes(content)
    ended = superbench("--home", home, "leaderboard", "verify")
    assert ended.code == DAMAGED, ended.out
    assert "Traceback" not in ended.err


def test_anywhere_in_the_leaderboard(undisturbed, superbench, tmp_path):
    """`verify` refuses it, or the bit was of no importance and the board shows what it showed."""

    def shown():
        exported = superbench("--home", home, "leaderboard", "export", "--csv", "-")
        return exported.code, [line["value"] for line in csv.DictReader(io.StringIO(exported.out))]

    home = shutil.copytree(undisturbed(MEANS).home, tmp_path / "home")
    database = home / "leaderboard.sqlite"
    whole, expected = database.read_bytes(), shown()
    assert expected[0] == 0
    codes = []
    for number in range(40):
        database.write_bytes(whole)
        flip(database, number / 39, number % 8)
        ended = superbench("--home", home, "leaderboard", "verify")
        codes.append(ended.code)
        assert ended.code == DAMAGED or (ended.code == 0 and shown() == expected), ended.err
        assert "Traceback" not in ended.err
    assert set(codes) == {0, DAMAGED}


def test_what_the_flips_above_leave_out(undisturbed):
    """Every file of a home is spoken of here, but for what holds nothing."""
    known = ("head.safetensors", f"*{CHECKPOINT}", "predictions*.jsonl", "result.json", "plan.json", "*.sqlite")
    for given in (MEANS, FRAMES):
        home = undisturbed(given).home
        kept = [p.relative_to(home) for p, content in files(home).items() if content]
        assert [n for n in kept if n.parts[0] != "store" and not any(n.match(k) for k in known)] == []
