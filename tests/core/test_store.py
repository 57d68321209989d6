"""Features on disk: whole or not there, found by content, shared by processes that know nothing of each other."""

from __future__ import annotations

import json
import os
import time

import pytest
import torch
from safetensors import safe_open

from superbench.errors import DamagedError, IntegrityError, ResourceError
from superbench.features.store import FeatureStore, room, store_folder
from superbench.features.store_catalog import USED

KEY = "ab" * 32


def entries(*names):
    return {n: [torch.full((2, 3), float(ord(n))), torch.arange(4.0) + i] for i, n in enumerate(names)}


@pytest.fixture
def store(tmp_path):
    return lambda form="pooled", **given: FeatureStore(tmp_path, KEY, form, **given)


def shards(store):
    return sorted(p.name for p in store.folder.glob("*.safetensors"))


def test_what_was_written_is_read_in_this_process_and_the_next(store):
    first = store()
    wanted = entries("b", "a")
    assert first.missing(["a", "b", "a"]) == ["a", "b"]
    first.write(wanted)
    for opened in (first, store(), store(read_only=True)):
        assert opened.missing(["a", "b", "c"]) == ["c"]
        assert opened.segments == ("a", "b")
        for name, tensors in wanted.items():
            assert all(torch.equal(x, y) for x, y in zip(opened.read(name), tensors, strict=True))
        with pytest.raises(IntegrityError, match="not in the store"):
            opened.read("c")
        with pytest.raises(DamagedError, match="not in the store"):
            opened.frames("c", None)


def test_what_others_wrote_meanwhile_is_found(store):
    first, second = store(), store()
    first.write(entries("a"))
    assert second.missing(["a", "b"]) == ["b"]
    assert torch.equal(second.read("a")[1], torch.arange(4.0))


def test_forms_and_numbers_are_apart(store, tmp_path):
    store("pooled").write(entries("a"))
    assert store("frames").missing(["a"]) == ["a"]
    store("frames", dtype="bfloat16").write({"a": [torch.ones(2, 5, 3)]})
    assert store("frames").missing(["a"]) == ["a"]
    assert store_folder(tmp_path, KEY, "frames", "bfloat16") == tmp_path / "ab" / KEY / "frames-bfloat16"


def test_a_shard_is_a_safetensors_file_that_says_what_it_is(store):
    first = store("frames", dtype="int8")
    x_LTD = torch.tensor([[[1.0, -127.0], [2.0, 0.0]]])
    first.write({"a": [x_LTD], "b": [x_LTD * 2]})
    (name,) = shards(first)
    with safe_open(first.folder / name, framework="pt") as opened:
        assert sorted(opened.keys()) == ["a/0", "a/0.scales", "b/0", "b/0.scales"]
        assert opened.get_tensor("a/0").tolist() == [[[64, -127], [127, 0]]]
        assert torch.equal(opened.get_tensor("b/0.scales"), torch.tensor([[4.0 / 127, 2.0]]))
        metadata = opened.metadata()
    assert metadata["place"] == f"{KEY}/frames-int8"
    assert sorted(json.loads(metadata["entries"])) == ["a", "b"]


def test_the_same_entries_make_the_same_file_whatever_their_order(store):
    first = store()
    first.write(entries("a", "b"))
    (name,) = shards(first)
    shard = first.folder / name
    whole = shard.read_bytes()
    shard.unlink()
    store().write(dict(reversed(entries("a", "b").items())))
    assert shards(first) == [name]
    assert shard.read_bytes() == whole
    assert len(whole) == 8 + int.from_bytes(whole[:8], "little") + 2 * 4 * (6 + 4)


def test_an_entry_in_two_shards_is_read_from_the_first_by_name_in_every_process(store):
    first, second = store(), store()
    first.write({"a": [torch.zeros(1)], "b": [torch.zeros(1)]})
    second.write({"a": [torch.ones(1)]})
    expected = store().read("a")[0]
    assert first.missing(["a", "b"]) == second.missing(["a", "b"]) == []
    assert first._index.where["a"] == second._index.where["a"] == shards(first)[0]
    assert torch.equal(first.read("a")[0], expected)
    assert torch.equal(second.read("a")[0], expected)
    (first.folder / shards(first)[0]).unlink()
    assert torch.equal(store().read("a")[0], 1 - expected)


def test_a_shard_that_another_process_replaces_is_opened_again(store):
    first, second = store(), store()
    first.write({"a": [torch.zeros(1)], "b": [torch.zeros(1)]})
    assert first.read("a")[0].item() == 0.0
    second.write({"a": [torch.ones(1)], "b": [torch.ones(1)]})
    assert first.read("b")[0].item() == 1.0
    assert first.missing(["a", "b"]) == []
    assert first.read("a")[0].item() == 1.0
    assert first.warnings == []


def test_lengths_are_known_without_opening_a_shard(store, monkeypatch):
    store("frames").write({"a": [torch.ones(2, 5, 3)], "b": [torch.ones(5, 3), torch.ones(2, 4)]})
    opened = store("frames")
    monkeypatch.setattr(os, "open", None)
    assert (opened.frames("a", None), opened.frames("a", 1)) == (5, 5)
    assert (opened.frames("b", None), opened.frames("b", 0), opened.frames("b", 1)) == (5, 5, 2)


def test_many_time_means_are_read_into_one_tensor(store):
    first = store()
    stacked, apart = torch.randn(3, 4), [torch.randn(4) for _ in range(3)]
    first.write({"a": [stacked], "b": apart})
    out_NLD = torch.empty(3, 3, 4)
    first.read_pooled(["b", "a", "b"], out_NLD)
    assert torch.equal(out_NLD, torch.stack([torch.stack(apart), stacked, torch.stack(apart)]))
    out_N1D = torch.empty(2, 1, 4)
    first.read_pooled(["a", "b"], out_N1D, layer=1)
    assert torch.equal(out_N1D, torch.stack([stacked[1:2], apart[1][None]]))


def test_what_is_done_to_a_tensor_does_not_reach_the_file(store):
    first = store()
    first.write({"a": [torch.zeros(3)]})
    before = (first.folder / shards(first)[0]).read_bytes()
    first.read("a")[0].fill_(7.0)
    assert (first.folder / shards(first)[0]).read_bytes() == before
    assert store().read("a")[0].tolist() == [0.0, 0.0, 0.0]


def test_opening_shards_keeps_no_file_open(store):
    first = store()
    for i in range(20):
        first.write({f"{i}": [torch.zeros(3)]})
    before = len(os.listdir("/dev/fd"))
    kept = [first.read(f"{i}") for i in range(20)]
    assert (len(os.listdir("/dev/fd")), len(kept)) == (before, 20)


def test_looking_changes_nothing(store, tmp_path):
    assert store(read_only=True).missing(["a"]) == ["a"]
    assert list(tmp_path.iterdir()) == []
    first = store()
    first.write(entries("a"))
    os.utime(first.folder / USED, (1e9, 1e9))
    before = {p.name: p.stat().st_mtime_ns for p in first.folder.iterdir()}
    looking = store(read_only=True)
    assert looking.missing(["a", "b"]) == ["b"]
    looking.save_index()
    assert {p.name: p.stat().st_mtime_ns for p in first.folder.iterdir()} == before


def test_a_store_that_is_opened_is_marked_as_used(store):
    folder = store().folder
    os.utime(folder / USED, (1e9, 1e9))
    store()
    assert (folder / USED).stat().st_mtime > time.time() - 3600


def test_room_is_asked_for_beforehand(store, tmp_path):
    store().require(1000)
    with pytest.raises(ResourceError, match=r"MiB free.*\n.*--store-dir DIR"):
        store().require(2**60)
    assert 0 < room(tmp_path / "not" / "there") < 2**60


def test_a_place_where_nothing_can_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError, match=r"feature store at .*\n.*--store-dir DIR"):
        FeatureStore(tmp_path / "file", KEY, "pooled")
