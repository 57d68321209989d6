"""Killed, terminated or out of disk at any write, and run again: the bytes of a run that nothing befalls."""

from __future__ import annotations

import signal

import pytest
from driver import Order
from homes import CHECKPOINT, assert_same, assert_whole

CASES = {
    "time means": "-t ks --lr 1e-2,1e-3,1e-4 --seeds 0,1 --steps 6 --eval-every 2",
    "frames": "-t asr --head blstm:projector=4,hidden=4 --lr 1e-2,1e-3 --steps 6 --eval-every 2",
}
STREAMED = f"{CASES['frames']} -u wide --store off --memory 1MiB"
KILLED = -signal.SIGKILL
DISPENSABLE = ("about.json", "index")  # without them the store does as well, if slower
INTERRUPTED, NO_SPACE = 130, 5  # exit codes


def litter(home):
    return [str(path) for path in home.rglob(".*.tmp")]


@pytest.fixture(params=CASES)
def reference(request, undisturbed):
    return undisturbed(CASES.get(request.param, STREAMED))


@pytest.fixture
def homes(driver, struck, reference, tmp_path):
    """Strike runs with some faults, each in a home of its own and there one after the other; then let them end."""

    def run(sequences, code):
        places = [tmp_path / str(number) for number in range(len(sequences))]
        commands = [struck(place, reference.given) for place in places]
        for faults in zip(*sequences, strict=True):
            ended = driver.run(*[Order(arguments=c, fault=f) for c, f in zip(commands, faults, strict=True)])
            assert [(f, e.code) for f, e in zip(faults, ended, strict=True)] == [(f, code) for f in faults]
            for place in places:
                assert_whole(place, reference.contents)
            yield from zip(faults, places, ended, strict=True)
        last = driver.run(*[Order(arguments=c) for c in commands])
        found = [(s, e.code, e.err) for s, e in zip(sequences, last, strict=True)]
        assert found == [(s, 0, reference.told) for s in sequences]
        for place in places:
            assert_same(place, reference.contents)

    return run


def test_every_kind_of_file_is_written_and_synced_before_it_is_renamed(reference):
    assert reference.told == ""
    kinds = reference.kinds
    results = ["predictions.jsonl", "predictions.dev.jsonl", "head.safetensors", "result.json"]
    assert [k for k in kinds if k in results] == results * kinds.count("result.json")
    assert kinds[0] == "plan.json"
    assert kinds.count("*.safetensors") == 2
    assert kinds.count(f"*{CHECKPOINT}") >= 3
    assert reference.unsynced == ()


@pytest.mark.parametrize("reference", [*CASES, "streamed"], indirect=True)
def test_killed_before_each_renaming(reference, homes):
    list(homes([(f"before:*:{i}",) for i in range(1, len(reference.writes) + 1)], KILLED))


def test_the_kills_above_are_all_there_are(reference, driver, struck, tmp_path):
    fault = f"before:*:{len(reference.writes) + 1}"
    (ended,) = driver.run(Order(arguments=struck(tmp_path, reference.given), fault=fault))
    assert ended.code == 0, ended.err


@pytest.mark.parametrize(("moment", "which"), [("half", -1), ("after", 0)])
def test_killed_within_and_after_a_write_of_each_kind(moment, which, reference, homes):
    list(homes([(f"{moment}:*:{i}",) for i in reference.numbers(which)], KILLED))


def test_killed_again_and_again(homes):
    sequences = [
        ("half:plan.json:1", "half:head.safetensors:1", "after:predictions.dev.jsonl:1"),
        ("after:*.safetensors:1", "half:*.safetensors:1", "half:*.safetensors:1"),
        (f"half:*{CHECKPOINT}:2", f"after:*{CHECKPOINT}:1", f"half:*{CHECKPOINT}:1"),
        ("before:result.json:1", "half:result.json:1", "after:result.json:1"),
    ]
    list(homes(sequences, KILLED))


@pytest.mark.parametrize("reference", ["frames"], indirect=True)
def test_what_a_killed_run_left_unfinished_is_swept_by_the_next(reference, driver, struck, tmp_path):
    """One home; each kind of file is cut off in it once."""
    command = struck(tmp_path, reference.given)
    for kind in dict.fromkeys(reference.kinds):
        (ended,) = driver.run(Order(arguments=command, fault=f"half:{kind}:1"))
        assert ended.code == KILLED
    assert litter(tmp_path) != []
    (ended,) = driver.run(Order(arguments=command))
    assert ended.code == 0
    assert litter(tmp_path) == []


@pytest.mark.parametrize("reference", ["frames"], indirect=True)
def test_terminated_while_a_file_is_written(reference, homes):
    for _, place, ended in homes([(f"terminate:*:{i}",) for i in reference.numbers(0)], INTERRUPTED):
        assert "interrupted: what is finished is kept; run the same command again to go on" in ended.err
        assert "Traceback" not in ended.err
        assert litter(place) == []


@pytest.mark.parametrize(
    ("reference", "moment"), [("time means", "unsynced"), ("frames", "full")], indirect=["reference"]
)
def test_a_disk_that_fills_up_at_a_write(moment, reference, homes):
    """It fails at the sync of a file or at its renaming, and so does every write after that."""
    for fault, place, ended in homes([(f"{moment}:*:{i}",) for i in reference.numbers(0)], NO_SPACE):
        later = [path.name for path in reference.writes[int(fault.split(":")[-1]) - 1 :]]
        named = [name for name in later if name in ended.err]
        assert named[:1] == [name for name in later if name not in DISPENSABLE][:1], ended.err
        assert "No space left on device" in ended.err
        assert "run the same command again" in ended.err
        assert litter(place) == []
