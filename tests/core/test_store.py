"""Features on disk: whole or not there, found by content, put aside when damaged."""

from __future__ import annotations

import os
import time

import pytest
import torch

from superbench.errors import IntegrityError, ResourceError
from superbench.features.store import STALE, FeatureStore

KEY = "ab" * 32


def entries(*names):
    return {n: [torch.full((2, 3), float(i)), torch.arange(4.0) + i] for i, n in enumerate(names)}


@pytest.fixture
def store(tmp_path):
    return lambda form="pooled": FeatureStore(tmp_path, KEY, form)


def test_what_was_written_is_read_in_this_process_and_the_next(store):
    first = store()
    wanted = entries("b", "a")
    assert first.missing(["a", "b", "a"]) == ["a", "b"]
    first.write(wanted)
    for opened in (first, store()):
        assert opened.missing(["a", "b", "c"]) == ["c"]
        for name, tensors in wanted.items():
            assert all(torch.equal(x, y) for x, y in zip(opened.read(name), tensors, strict=True))
        with pytest.raises(IntegrityError, match="not in the store"):
            opened.read("c")


def test_forms_are_apart(store):
    store("pooled").write(entries("a"))
    assert store("frames").missing(["a"]) == ["a"]


def test_the_same_entries_make_the_same_file_whatever_their_order(store):
    first = store()
    first.write(entries("a", "b"))
    (shard,) = first.folder.glob("*.safetensors")
    whole = shard.read_bytes()
    shard.unlink()
    store().write(dict(reversed(entries("a", "b").items())))
    assert {p.name: p.read_bytes() for p in first.folder.iterdir()} == {shard.name: whole}


def test_an_entry_in_two_shards_is_one_entry(store):
    first, second = store(), store()
    first.write(entries("a", "b"))
    second.write(entries("a"))
    third = store()
    assert third.missing(["a", "b"]) == []
    assert torch.equal(third.read("a")[0], torch.zeros(2, 3))


def test_a_damaged_shard_takes_only_its_own_entries_with_it(store):
    writing = store()
    writing.write(entries("a", "b"))
    writing.write(entries("c"))
    shard = writing._entries["a"][0]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    opened = store()
    assert opened.missing(["a", "b", "c"]) == ["a", "b"]
    assert len(opened.warnings) == 1
    assert "put aside" in opened.warnings[0]
    opened.write(entries("a", "b"))
    assert store().missing(["a", "b", "c"]) == []


def test_litter_is_swept_when_it_is_old(store):
    folder = store().folder
    old, new = folder / ".old.tmp", folder / ".new.tmp"
    for path in (old, new):
        path.write_text("half a shard")
    os.utime(old, (time.time() - STALE - 60,) * 2)
    store()
    assert (old.exists(), new.exists()) == (False, True)
    assert store().missing(["a"]) == ["a"]


def test_room_is_asked_for_beforehand(store):
    store().require(1000)
    with pytest.raises(ResourceError, match="MiB free"):
        store().require(2**60)
