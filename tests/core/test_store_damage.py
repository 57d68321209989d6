"""Every flipped bit is found, what is damaged is put aside and told, and what vanishes is only missing."""

from __future__ import annotations

import os
import shutil

import pytest
import torch

from superbench.errors import DamagedError, ResourceError
from superbench.features import store_index
from superbench.features.shards import check_shard
from superbench.features.store import FeatureStore
from superbench.features.store_catalog import place_of

KEY = "ab" * 32
FORMS = [
    ("pooled", "float32"),
    ("pooled", "float64"),
    ("frames", "float32"),
    ("frames", "float64"),
    ("frames", "float16"),
    ("frames", "bfloat16"),
    ("frames", "int8"),
]


def only_shard(store):
    (shard,) = store.folder.glob("*.safetensors")
    return shard


def keep_time(path, content):
    """Other bytes in the same file at the same time, as a bad disk gives them."""
    found = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def entries(form):
    shape = (2, 3) if form == "pooled" else (2, 2, 3)
    zeros = torch.zeros(shape)  # equal numbers: an entry that is moved would look the same
    return {"a": [zeros], "b": [zeros.clone()], "c": [torch.arange(float(zeros.numel())).view(shape)]}


@pytest.mark.parametrize(("form", "dtype"), FORMS)
def test_a_flipped_bit_in_any_byte_is_found(form, dtype, tmp_path):
    store = FeatureStore(tmp_path, KEY, form, dtype)
    store.write(entries(form))
    shard = only_shard(store)
    whole, place = shard.read_bytes(), place_of(store.folder)
    assert check_shard(shard, place) == 3
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        shard.write_bytes(flipped)
        with pytest.raises(DamagedError):
            check_shard(shard, place)


@pytest.mark.parametrize("index", ["known", "damaged", "none"])
@pytest.mark.parametrize("where", ["length", "header", "digit of a segment's name", "padding", "numbers"])
def test_a_flipped_bit_is_found_by_the_time_it_is_read_whatever_the_index_says(index, where, tmp_path):
    store = FeatureStore(tmp_path, KEY, "pooled")
    wanted = {"0123": [torch.ones(2, 3)], "4567": [torch.zeros(2, 3)]}
    store.write(wanted)
    store.save_index()
    shard = only_shard(store)
    whole = shard.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    at = {
        "length": 1,
        "header": 100,
        "digit of a segment's name": whole.index(b'"0123/0"') + 2,
        "padding": 7 + length,
        "numbers": 8 + length + 20,
    }[where]
    keep_time(shard, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    if index == "none":
        (store.folder / "index").unlink()
    elif index == "damaged":
        (store.folder / "index").write_bytes(b"x")
    opened = FeatureStore(tmp_path, KEY, "pooled")
    for segment in ("0123", "4567"):
        if not opened.missing([segment]):
            with pytest.raises(DamagedError, match=shard.name):
                opened.read(segment)
    assert opened.missing(["0123", "4567"]) == ["0123", "4567"]
    assert [w.startswith("damaged features put aside") for w in opened.warnings] == [True]
    opened.write(wanted)
    assert shard.read_bytes() == whole
    (aside,) = store.folder.glob("*.corrupt-*")
    assert sum(x != y for x, y in zip(aside.read_bytes(), whole, strict=True)) == 1


def test_a_damaged_shard_takes_only_its_own_entries_with_it(tmp_path):
    writing = FeatureStore(tmp_path, KEY, "pooled")
    writing.write({"a": [torch.ones(3)], "b": [torch.ones(3)]})
    writing.write({"c": [torch.ones(3)]})
    shard = writing.folder / writing._index.where["a"]
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    opened = FeatureStore(tmp_path, KEY, "pooled")
    assert opened.missing(["a", "b", "c"]) == []  # nothing was read yet
    assert opened.read("a")[0].tolist() == [1.0, 1.0, 1.0]  # the damage is in b
    with pytest.raises(DamagedError, match="are not what was written"):
        opened.read("b")
    assert opened.missing(["a", "b", "c"]) == ["a", "b"]
    opened.write({"a": [torch.ones(3)], "b": [torch.ones(3)]})
    assert opened.read("b")[0].tolist() == [1.0, 1.0, 1.0]
    assert len(opened.warnings) == 1


def test_another_shard_with_the_same_entry_is_read_in_place_of_a_damaged_one(tmp_path):
    store = FeatureStore(tmp_path, KEY, "pooled")
    store.write({"a": [torch.ones(3)], "b": [torch.ones(3)]})
    store.write({"a": [torch.ones(3)]})
    first = store.folder / store._index.where["a"]
    keep_time(first, b"x" * first.stat().st_size)
    assert store.read("a")[0].tolist() == [1.0, 1.0, 1.0]
    assert len(store.warnings) == 1


def test_a_shard_that_vanishes_while_the_store_is_open_is_missing_and_no_damage(tmp_path):
    store = FeatureStore(tmp_path, KEY, "pooled")
    store.write({"a": [torch.ones(3)], "b": [torch.ones(3)]})
    held = store.read("a")
    only_shard(store).unlink()
    with pytest.raises(DamagedError, match="is gone"):
        store.read("b")
    assert held[0].tolist() == [1.0, 1.0, 1.0]
    assert (store.missing(["a", "b"]), store.warnings) == (["a", "b"], [])


def test_what_was_checked_is_read_on_while_the_store_is_emptied(tmp_path):
    store = FeatureStore(tmp_path, KEY, "pooled")
    store.write({"a": [torch.ones(3)]})
    store.read("a")
    shutil.rmtree(store.folder)
    assert store.read("a")[0].tolist() == [1.0, 1.0, 1.0]
    assert store.missing(["a"]) == ["a"]
    store.write({"a": [torch.ones(3)]})
    assert FeatureStore(tmp_path, KEY, "pooled").read("a")[0].tolist() == [1.0, 1.0, 1.0]


def test_another_process_may_put_the_same_shard_aside_first(tmp_path):
    first, second = (FeatureStore(tmp_path, KEY, "pooled") for _ in range(2))
    first.write({"a": [torch.ones(3)]})
    assert second.missing(["a"]) == []
    shard = only_shard(first)
    keep_time(shard, b"x" * shard.stat().st_size)
    for store in (first, second):
        with pytest.raises(DamagedError):
            store.read("a")
        assert store.missing(["a"]) == ["a"]
    assert (len(first.warnings), len(second.warnings)) == (1, 0)
    assert len(list(first.folder.glob("*.corrupt-*"))) == 1


@pytest.mark.parametrize("size", [0, 5, 40, -1])
def test_a_shard_that_is_cut_off_under_an_open_store_is_damage_and_no_crash(size, tmp_path):
    store = FeatureStore(tmp_path, KEY, "pooled")
    store.write({"a": [torch.ones(5000)], "b": [torch.ones(5000)]})
    store.read("a")
    shard = only_shard(store)
    os.truncate(shard, size if size >= 0 else shard.stat().st_size - 1)
    with pytest.raises(DamagedError):
        store.read("b")
    assert len(store.warnings) == 1


def test_a_shard_of_another_upstream_is_not_taken_for_ones_own(tmp_path):
    store = FeatureStore(tmp_path, KEY, "pooled")
    store.write({"a": [torch.ones(3)]})
    other = FeatureStore(tmp_path, "cd" * 32, "pooled")
    shutil.copy(only_shard(store), other.folder)
    assert other.missing(["a"]) == ["a"]
    assert "holds features of" in other.warnings[0]


def test_a_shard_that_cannot_be_put_aside_is_told(tmp_path, monkeypatch):
    store = FeatureStore(tmp_path, KEY, "pooled")
    store.write({"a": [torch.ones(3)]})
    shard = only_shard(store)
    keep_time(shard, b"x" * shard.stat().st_size)

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store_index.Path, "rename", refused)
    with pytest.raises(ResourceError, match="cannot be put aside: Permission denied"):
        store.read("a")


def test_no_more_files_to_open_is_no_damage(tmp_path, monkeypatch):
    store = FeatureStore(tmp_path, KEY, "pooled")
    store.write({"a": [torch.ones(3)]})

    def refused(*_):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refused)
        with pytest.raises(ResourceError, match="Too many open files"):
            store.read("a")
    assert store.read("a")[0].tolist() == [1.0, 1.0, 1.0]


def test_a_disk_that_fails_to_read_is_damage_and_told(tmp_path, monkeypatch):
    store = FeatureStore(tmp_path, KEY, "pooled")
    store.write({"a": [torch.ones(3)]})
    pread = os.pread

    def failing(descriptor, count, at):
        if at > 8:
            raise OSError(5, "Input/output error")
        return pread(descriptor, count, at)

    monkeypatch.setattr(os, "pread", failing)
    with pytest.raises(DamagedError, match="cannot be read: Input/output error"):
        store.read("a")
    assert store.missing(["a"]) == ["a"]
