"""The index makes opening quick and is never trusted: damaged, lost or overwritten, the answers are the same."""

from __future__ import annotations

import json
import os

import pytest
import torch

from superbench.features import store_index
from superbench.features.store import FeatureStore

KEY = "ab" * 32
NAMES = ("a", "b", "c")


@pytest.fixture
def filled(tmp_path):
    store = FeatureStore(tmp_path, KEY, "frames")
    for length, name in enumerate(NAMES, start=1):
        store.write({name: [torch.full((2, length, 3), float(length))]})
    store.save_index()
    return store


@pytest.fixture
def headers(monkeypatch):
    """Names of the shards whose headers were read to index them."""
    seen = []
    read = store_index.read_header
    monkeypatch.setattr(store_index, "read_header", lambda path, place: seen.append(path.name) or read(path, place))
    return seen


def answers(root, **given):
    store = FeatureStore(root, KEY, "frames", **given)
    return store.missing([*NAMES, "d"]), [store.frames(n, None) for n in NAMES], store.read("b")[0].tolist()


EXPECTED = (["d"], [1, 2, 3], [[[2.0] * 3] * 2] * 2)


def test_opening_reads_no_header_that_the_index_knows(filled, headers, tmp_path):
    assert answers(tmp_path) == EXPECTED
    assert headers == []


def test_an_index_is_one_file_of_all_shards(filled):
    checksum, _, rest = (filled.folder / "index").read_bytes().partition(b"\n")
    assert len(checksum) == 16
    found = json.loads(rest)
    assert sorted(found) == sorted(p.name for p in filled.folder.glob("*.safetensors"))
    assert {s: f for _, _, frames in found.values() for s, f in frames.items()} == {"a": [1], "b": [2], "c": [3]}


def test_opening_indexes_what_is_new_and_forgets_what_is_gone_or_changed(filled, headers, tmp_path):
    FeatureStore(tmp_path, KEY, "frames").write({"d": [torch.ones(2, 4, 3)]})
    gone, touched = (filled.folder / filled._index.where[n] for n in ("a", "c"))
    gone.unlink()
    os.utime(touched)
    opened = FeatureStore(tmp_path, KEY, "frames")
    assert opened.missing(["a", "b", "c", "d"]) == ["a"]
    assert sorted(headers) == sorted([touched.name, opened._index.where["d"]])
    headers.clear()
    assert FeatureStore(tmp_path, KEY, "frames").missing(["a", "b", "c", "d"]) == ["a"]  # opening has saved it
    assert headers == []


def test_an_index_damaged_in_any_byte_is_made_again(filled, headers, tmp_path):
    index = filled.folder / "index"
    whole = index.read_bytes()
    for at in range(len(whole)):
        index.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        opened = FeatureStore(tmp_path, KEY, "frames", read_only=at % 16 != 0)
        assert (opened.missing([*NAMES, "d"]), [opened.frames(n, None) for n in NAMES]) == EXPECTED[:2]
        assert len(headers) == 3
        assert at % 16 != 0 or index.read_bytes() == whole
        headers.clear()


@pytest.mark.parametrize("content", [b"", b"\n", b"{}", b"0123456789abcdef\n{}", None])
def test_an_index_that_is_no_index_is_made_again(content, filled, headers, tmp_path):
    index = filled.folder / "index"
    whole = index.read_bytes()
    index.unlink()
    if content is not None:
        index.write_bytes(content)
    assert answers(tmp_path) == EXPECTED
    assert (len(headers), index.read_bytes()) == (3, whole)


def test_an_index_that_another_process_overwrites_costs_headers_and_nothing_else(filled, headers, tmp_path):
    stale = (filled.folder / "index").read_bytes()
    first, second = (FeatureStore(tmp_path, KEY, "frames") for _ in range(2))
    first.write({"d": [torch.ones(2, 4, 3)]})
    second.write({"e": [torch.ones(2, 5, 3)]})
    first.save_index()
    assert headers == [second._index.where["e"]]  # what it finds when it saves is saved as well
    headers.clear()
    (filled.folder / "index").write_bytes(stale)  # as if a slow process had written last what it knew
    opened = FeatureStore(tmp_path, KEY, "frames")
    assert (opened.missing(["a", "b", "c", "d", "e"]), len(headers)) == ([], 2)


def test_the_index_is_not_written_after_every_shard(filled):
    before = (filled.folder / "index").stat().st_ino
    filled.write({"d": [torch.ones(2, 4, 3)]})
    assert (filled.folder / "index").stat().st_ino == before
    filled.save_index()
    assert (filled.folder / "index").stat().st_ino != before
    saved = (filled.folder / "index").stat().st_ino
    filled.save_index()  # nothing is new
    assert (filled.folder / "index").stat().st_ino == saved


def test_an_index_that_cannot_be_written_costs_nothing_else(filled, headers, tmp_path):
    index = filled.folder / "index"
    index.unlink()
    index.mkdir()
    (index / "in the way").touch()
    assert answers(tmp_path) == EXPECTED
    assert len(headers) == 3
    assert not list(filled.folder.glob(".*.tmp"))
