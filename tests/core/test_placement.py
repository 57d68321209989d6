"""Where features are to be: by what was asked, what the disk has room for, and the budget of memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from superbench.contracts import Utterance
from superbench.errors import ResourceError
from superbench.features.passes import Need
from superbench.features.reduction import Form
from superbench.features.store import FeatureStore
from superbench.pipeline import placement
from superbench.pipeline.placement import place

KEY = "ab" * 32
POOLED, FRAMES = Form(name="pooled"), Form(name="frames")
SIZE = 1000  # bytes of each segment


def needed(names="abcd", form=FRAMES):
    segments = tuple(
        Utterance(
            id=name,
            path=Path("u.wav"),
            start=0,
            stop=1000,
            native_rate=16000,
            samples=1000,
            rate=16000,
            content=name,
            split="train",
            fold="",
            speaker="",
            labels={},
            reference="",
        )
        for name in names
    )
    count = len(segments)
    return Need(form=form, segments=segments, sizes=(SIZE,) * count, bytes=SIZE * count, frames=10 * count, longest=10)


@pytest.fixture
def placed(tmp_path, monkeypatch):
    """Place what is needed where the disk has so much room."""

    def decide(need, *, asked="auto", room=10**9, memory=10**9, beside=()):
        monkeypatch.setattr(placement, "room", lambda root: room)
        return place(need, tmp_path, KEY, task="asr", asked=asked, memory=memory, beside=beside)

    return decide


def stored(root, names, form="frames", dtype="float32"):
    store = FeatureStore(root, KEY, form, dtype)
    for name in names:
        store.write({name: [torch.zeros(1, 2, 3) if form == "frames" else torch.zeros(1, 3)]})
    store.save_index()


@pytest.mark.parametrize("form", [POOLED, FRAMES], ids=str)
@pytest.mark.parametrize("asked", ["auto", "frames"])
def test_what_fits_on_the_disk_goes_there(form, asked, placed):
    found = placed(needed(form=form), asked=asked, room=4 * SIZE)
    assert (found.where, found.missing, found.bytes_missing, found.room, found.why) == (
        "disk",
        frozenset("abcd"),
        4 * SIZE,
        4 * SIZE,
        "it fits",
    )
    assert found.passes == "one pass, shared by all learning rates, seeds, folds and epochs"


@pytest.mark.parametrize(
    ("form", "asked", "memory", "where"),
    [
        (FRAMES, "off", 4 * SIZE, "memory"),
        (FRAMES, "off", 4 * SIZE - 1, "streamed"),
        (FRAMES, "pooled", 4 * SIZE, "memory"),
        (FRAMES, "pooled", 4 * SIZE - 1, "streamed"),
        (POOLED, "off", 4 * SIZE, "memory"),
        (POOLED, "off", 4 * SIZE - 1, "streamed"),
        (POOLED, "pooled", 0, "disk"),
    ],
)
def test_what_is_asked_to_be_nowhere_is_kept_in_memory_where_it_fits(form, asked, memory, where, placed):
    found = placed(needed(form=form), asked=asked, memory=memory)
    assert (found.where, found.bytes_missing) == (where, 4 * SIZE if where == "disk" else 0)
    assert found.why == ("it fits" if where == "disk" else f"--store {asked}")


@pytest.mark.parametrize(("memory", "where"), [(4 * SIZE, "memory"), (4 * SIZE - 1, "streamed")])
def test_frames_that_do_not_fit_on_the_disk_are_not_stored(memory, where, placed):
    found = placed(needed(), room=4 * SIZE - 1, memory=memory)
    assert (found.where, found.bytes_missing, found.room) == (where, 0, 4 * SIZE - 1)
    assert found.why == "the disk has 3.9 KiB free, the frames need 3.9 KiB"


def test_a_streamed_run_says_how_often_the_upstream_runs(placed):
    found = placed(needed(), asked="off", memory=0)
    assert found.passes == (
        "a pass per epoch and seed, shared by its learning rates, and one over dev at every evaluation"
    )


@pytest.mark.parametrize(("dtype", "times"), [("float16", 2), ("bfloat16", 2), ("int8", 4), ("float64", 1)])
def test_in_memory_lossy_features_take_the_room_of_float32(dtype, times, placed):
    need = needed(form=Form(name="frames", dtype=dtype))
    for memory, where in ((4 * SIZE * times, "memory"), (4 * SIZE * times - 1, "streamed")):
        assert placed(need, asked="off", memory=memory).where == where
    assert placed(need, room=4 * SIZE).where == "disk"


@pytest.mark.parametrize(
    ("form", "asked", "other"),
    [
        (FRAMES, "frames", "a smaller --store-dtype, or stream: --store auto"),
        (Form(name="frames", dtype="float16"), "frames", "a smaller --store-dtype, or stream: --store auto"),
        (Form(name="frames", dtype="int8"), "frames", "stream: --store auto"),
        (Form(name="frames", dtype="float64"), "frames", "stream: --store auto"),
        (POOLED, "frames", "keep nothing: --store off"),
        (POOLED, "pooled", "keep nothing: --store off"),
        (POOLED, "auto", "keep nothing: --store off"),
    ],
)
def test_what_was_asked_for_and_does_not_fit_is_refused(form, asked, other, placed, tmp_path):
    with pytest.raises(ResourceError) as raised:
        placed(needed(form=form), asked=asked, room=1024)
    assert raised.value.message == (
        f"task asr: {tmp_path} has 1.0 KiB free; the features need 3.9 KiB more (64.0 MiB of the disk are left alone)"
    )
    assert raised.value.hint == (
        f"free some space (`superbench store prune`), choose another place with --store-dir DIR, or {other}"
    )


@pytest.mark.parametrize("asked", ["auto", "frames", "pooled"])
def test_what_is_stored_is_read_though_there_is_no_room(asked, placed, tmp_path):
    stored(tmp_path, "abcd")
    found = placed(needed(), asked=asked, room=0, memory=0)
    assert (found.where, found.missing, found.bytes_missing, found.why) == (
        "disk",
        frozenset(),
        0,
        "all of it is stored",
    )


def test_off_is_off_though_all_of_it_is_stored(placed, tmp_path):
    stored(tmp_path, "abcd")
    assert placed(needed(), asked="off").where == "memory"


def test_only_what_lacks_needs_room(placed, tmp_path):
    stored(tmp_path, "ab")
    found = placed(needed(), room=2 * SIZE)
    assert (found.where, found.missing, found.bytes_missing) == ("disk", frozenset("cd"), 2 * SIZE)
    found = placed(needed(), room=2 * SIZE - 1, memory=0)
    assert (found.where, found.missing, found.bytes_missing) == ("streamed", frozenset("cd"), 0)


def test_another_form_of_the_same_sounds_is_no_help(placed, tmp_path):
    stored(tmp_path, "abcd", "frames", "int8")
    stored(tmp_path, "abcd", "pooled")
    assert placed(needed()).missing == frozenset("abcd")


def test_to_look_leaves_nothing_behind(placed, tmp_path):
    placed(needed())
    assert list(tmp_path.iterdir()) == []


def test_room_is_promised_once(placed):
    first = needed("abcd")
    beside = [(first, placed(first, room=6 * SIZE))]
    second = needed("efg")
    assert placed(second, room=7 * SIZE, beside=beside).where == "disk"
    found = placed(second, room=6 * SIZE, memory=0, beside=beside)
    assert (found.where, found.room, found.bytes_missing) == ("streamed", 2 * SIZE, 0)


def test_what_another_task_writes_is_not_written_twice(placed):
    first = needed("abcd")
    beside = [(first, placed(first, room=5 * SIZE))]
    second = needed("bcde")
    found = placed(second, room=5 * SIZE, beside=beside)
    assert (found.where, found.missing, found.bytes_missing) == ("disk", frozenset("bcde"), SIZE)
    beside.append((second, found))
    assert placed(needed("ae"), room=5 * SIZE, beside=beside).bytes_missing == 0
    assert placed(needed("f"), room=5 * SIZE, memory=0, beside=beside).where == "streamed"


def test_what_another_task_keeps_elsewhere_takes_no_room_and_gives_none(placed):
    for form, asked in ((FRAMES, "off"), (POOLED, "auto")):
        first = needed("abcd", form=form)
        beside = [(first, placed(first, asked=asked, memory=0))]
        found = placed(needed("abcd"), room=8 * SIZE, beside=beside)
        assert (found.where, found.bytes_missing) == ("disk", 4 * SIZE)
        assert found.room == (8 * SIZE if asked == "off" else 4 * SIZE)


def test_more_promised_than_there_is_now_is_no_room(placed):
    first = needed("abcd")
    beside = [(first, placed(first, room=4 * SIZE))]
    found = placed(needed("e"), room=SIZE, memory=0, beside=beside)
    assert (found.where, found.room) == ("streamed", 0)
    assert found.why == "the disk has 0 B free, the frames need 1000 B"
