"""Features in memory: what a store on disk gives back, for as long as the process lives."""

from __future__ import annotations

import pytest
import torch

from superbench.errors import IntegrityError, NumericalError
from superbench.features.memory_store import MemoryStore
from superbench.features.reduction import Form
from superbench.features.store import FeatureStore

KEY = "ab" * 32
ENTRIES = {
    name: [torch.randn(2, frames, 3, generator=torch.Generator().manual_seed(frames))]
    for name, frames in (("a", 5), ("b", 9))
}


def filled(dtype="float32"):
    store = MemoryStore(Form(name="frames", dtype=dtype))
    store.write(ENTRIES)
    return store


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int8"])
def test_it_gives_back_what_a_store_on_disk_does(dtype, tmp_path):
    on_disk = FeatureStore(tmp_path, KEY, "frames", dtype)
    on_disk.write(ENTRIES)
    in_memory = filled(dtype)
    for name in ENTRIES:
        (there,), (here,) = on_disk.read(name), in_memory.read(name)
        assert here.dtype == there.dtype == (torch.float64 if dtype == "float64" else torch.float32)
        assert torch.equal(here, there)
        assert in_memory.frames(name, None) == on_disk.frames(name, None)
    form = Form(name="frames", dtype=dtype)
    stored = sum(form.bytes((frames, frames), (3, 3)) for frames in (5, 9))
    assert in_memory.bytes == 14 * 2 * 3 * (8 if dtype == "float64" else 4) <= form.held(stored)


def test_what_a_form_cannot_hold_is_refused_as_on_disk():
    store = MemoryStore(Form(name="frames", dtype="float16"))
    with pytest.raises(NumericalError, match="a feature of segment a is 1e\\+06: it cannot be stored as float16"):
        store.write({"a": [torch.full((1, 2, 3), 1e6)]})


def test_what_is_missing_is_told_sorted_and_once():
    assert filled().missing(["d", "b", "c", "d", "a"]) == ["c", "d"]
    assert filled().missing([]) == []


def test_layers_of_other_lengths_have_their_own_frames():
    store = MemoryStore(Form(name="frames"))
    store.write({"a": [torch.zeros(5, 3), torch.zeros(7, 3)]})
    assert [store.frames("a", layer) for layer in (None, 0, 1)] == [5, 5, 7]


def test_what_is_not_wanted_is_forgotten():
    store = filled()
    store.keep_only({"b", "c"})
    assert store.missing(["a", "b"]) == ["a"]
    assert store.bytes == 9 * 2 * 3 * 4
    store.keep_only(())
    assert (store.missing(["a", "b"]), store.bytes) == (["a", "b"], 0)


def test_what_is_not_there_is_told():
    with pytest.raises(IntegrityError, match="features of segment c are not in memory"):
        filled().read("c")


def test_nobody_else_writes_here():
    store = filled()
    assert store.claim(["a"])
    store.release(["a"])
    store.require(2**62)
    store.save_index()
    assert (store.warnings, store.missing(ENTRIES)) == ([], [])


@pytest.mark.parametrize(
    ("dtype", "times"), [("float32", 1), ("float64", 1), ("float16", 2), ("bfloat16", 2), ("int8", 4)]
)
def test_lossy_features_take_the_room_of_float32_in_memory(dtype, times):
    assert Form(name="frames", dtype=dtype).held(1000) == times * 1000
