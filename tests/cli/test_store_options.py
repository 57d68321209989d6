"""What can be asked of the store and of memory, and what is refused: with its reason, and how to mend it."""

from __future__ import annotations

import pytest
from heard import ONLY_FLOAT32, UPSTREAM

from superbench.pipeline import placement

FRAMES = ("-t", "pr", "--head", "frame_linear:projector=8")


@pytest.fixture
def command(superbench, plugin, tones, tmp_path, monkeypatch):
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))

    def give(*more, verb="run", text=UPSTREAM):
        given = ("-p", plugin(text), "-u", "heard", "--data", tones, "--steps", 2, "--lr", "1e-3", "-q")
        return superbench("--home", tmp_path / "home", verb, *given, *more)

    return give


@pytest.fixture
def disk(monkeypatch):
    """Have the disk have so much room."""
    return lambda room: monkeypatch.setattr(placement, "room", lambda root: room)


@pytest.mark.parametrize("verb", ["run", "plan"])
@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (
            ("--store", "nonsense"),
            2,
            ["the option 'store' is 'nonsense': input should be 'auto', 'frames', 'pooled' or 'off'"],
        ),
        (
            ("--store", "/some/dir"),
            2,
            ["--store says what run and plan keep (auto, frames, pooled, off)", "--store-dir DIR"],
        ),
        (
            ("--store-dtype", "int4"),
            2,
            ["'store_dtype' is 'int4': input should be 'float32', 'float16', 'bfloat16' or 'int8'"],
        ),
        (("--store-dtype", "float64"), 2, ["'store_dtype' is 'float64'"]),
        (
            ("--memory", "3 potatoes"),
            2,
            ["--memory 3 potatoes: no amount of bytes", "write 500MB, 10GiB, 1.5TB, or a number of bytes"],
        ),
        (("--memory", "-1GB"), 2, ["--memory -1GB: no amount of bytes"]),
        (("--memory", "10B"), 2, ["--memory 10B is too little to work in", "give 1MiB at least"]),
        (("--memory", "1MB"), 2, ["--memory 1MB is too little to work in", "give 1MiB at least"]),
        (("--precision", "float16"), 2, ["'precision' is 'float16': input should be 'float32', 'float64' or"]),
        (
            ("--precision", "float64", "--store-dtype", "int8"),
            2,
            ["precision float64 stores float64, not int8"],
        ),
    ],
)
def test_what_makes_no_sense_is_refused(options, code, words, verb, command):
    ended = command(*FRAMES, *options, verb=verb)
    assert ended.code == code
    assert [w for w in words if w not in ended.err] == [], ended.err
    assert "Traceback" not in ended.err


def test_the_least_memory_is_enough(command):
    assert command(*FRAMES, "--memory", "1MiB").code == 0


def test_an_upstream_that_knows_float32_only_is_refused_in_float64(command):
    ended = command(*FRAMES, "--precision", "float64", text=ONLY_FLOAT32)
    assert ended.code == 4
    assert "computes in float32 only" in ended.err
    assert "upstream 'heard' of mine" in ended.err
    assert command(*FRAMES, text=ONLY_FLOAT32).code == 0


@pytest.mark.parametrize("verb", ["run", "plan"])
@pytest.mark.parametrize(
    ("dtype", "need", "other"),
    [
        ("float32", "20.3 KiB", "a smaller --store-dtype, or stream: --store auto"),
        ("float16", "10.1 KiB", "a smaller --store-dtype, or stream: --store auto"),
        ("int8", "5.8 KiB", "or stream: --store auto"),
    ],
)
def test_frames_that_are_to_be_stored_and_do_not_fit_are_refused(dtype, need, other, verb, command, disk, tmp_path):
    disk(5000)
    ended = command(*FRAMES, "--store", "frames", "--store-dtype", dtype, verb=verb)
    assert ended.code == 5
    assert f"task pr: {tmp_path / 'home' / 'store'} has 4.9 KiB free; the features need {need} more" in ended.err
    assert "free some space (`superbench store prune`), choose another place with --store-dir DIR" in ended.err
    assert other in ended.err
    assert not (tmp_path / "home" / "store").exists()
    assert not list((tmp_path / "home").rglob("result.json"))


def test_time_means_that_do_not_fit_are_refused_unless_nothing_is_to_be_stored(command, disk):
    disk(500)
    ended = command("-t", "ks")
    assert ended.code == 5
    assert "has 500 B free; the features need 768 B more" in ended.err
    assert "or keep nothing: --store off" in ended.err
    assert command("-t", "ks", "--store", "off").code == 0


@pytest.mark.parametrize(
    ("tasks", "room", "expected"),
    [
        (("-t", "er,pr"), 768 + 20768, [("disk", 768), ("disk", 20768)]),
        (("-t", "er,pr"), 768 + 20767, [("disk", 768), ("memory", 0)]),
        (("-t", "pr,er"), 20768, "has 0 B free; the features need 768 B more"),
        (("-t", "er,pr", "--store", "frames"), 768 + 20767, "has 20.3 KiB free; the features need 20.3 KiB more"),
        # the same frames serve both
        (("-t", "asr,pr", "--head", "frame_linear:projector=8"), 20768, [("disk", 20768), ("disk", 0)]),
    ],
)
def test_room_is_not_promised_twice(tasks, room, expected, command, disk):
    """24 sounds have 768 bytes of time means, and 20768 bytes of frames."""
    disk(room)
    ended = command(*tasks, "--json", verb="plan")
    if isinstance(expected, str):
        assert ended.code == 5
        assert expected in ended.err
    else:
        assert [(plan["where"], plan["disk_bytes"]) for plan in ended.json] == expected


def test_a_plan_says_where_features_will_be_and_why(command, disk):
    disk(8000)
    told = command(*FRAMES, verb="plan")
    assert "pr: features in memory (the disk has 7.8 KiB free, the frames need 20.3 KiB): one pass" in told.out
    told = command(*FRAMES, "--store-dtype", "int8", verb="plan")
    assert "pr: features on the disk (it fits; 5.8 KiB to write, 7.8 KiB free): one pass" in told.out
    assert "pr: frames-int8: a quarter of the bytes; rounding of 1/254 of each dimension's largest value" in told.out
    assert "stored frames: int8 in place of float32" in told.out
