"""Whole or not there: what is left of a writing that failed, whose litter is whose, and who claims what."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from superbench.errors import ResourceError
from superbench.features.store import FeatureStore
from superbench.features.store_claims import FRESH, Claims
from superbench.processes import process_tag, state_of
from superbench.writing import STALE, litter, sweep, temporary_name, write_whole

KEY = "ab" * 32


@pytest.fixture(scope="module")
def dead():
    """The tag of a process of this machine that has ended."""
    code = "from superbench.processes import process_tag; print(process_tag())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def alive():
    """The tag of another process of this machine that lives as long as the test."""
    code = "from superbench.processes import process_tag; print(process_tag(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process.stdout.readline().strip()
        process.stdin.write("\n")


def test_a_tag_tells_whether_its_process_lives(dead, alive):
    assert state_of(process_tag()) == "alive"
    assert state_of(alive) == "alive"
    assert state_of(dead) == "dead"
    assert state_of("00000000-1") == "unknown"  # another machine's
    assert state_of("no tag") == state_of("") == "unknown"


def test_pieces_are_written_in_turn(tmp_path):
    write_whole(tmp_path / "new" / "file", [b"one ", memoryview(b"two")])
    write_whole(tmp_path / "new" / "other", b"three")
    assert {p.name: p.read_bytes() for p in (tmp_path / "new").iterdir()} == {"file": b"one two", "other": b"three"}


@pytest.mark.parametrize("kind", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_writing_that_fails_leaves_what_was_there(kind, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("before")

    def broken(_):
        raise kind

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(ResourceError if isinstance(kind, OSError) else KeyboardInterrupt) as caught:
        write_whole(path, b"after")
    assert isinstance(kind, KeyboardInterrupt) or "file could not be written (5 bytes): No space" in str(caught.value)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"file": "before"}


def test_the_file_is_synced_before_it_has_its_name_and_the_folder_after(tmp_path, monkeypatch):
    seen = []
    fsync = os.fsync

    def watched(descriptor):
        seen.append((os.path.isdir(f"/dev/fd/{descriptor}"), (tmp_path / "file").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    write_whole(tmp_path / "file", b"content")
    assert seen == [(False, False), (True, True)]


def test_litter_is_what_nobody_writes_any_more(tmp_path, dead, alive):
    names = {
        "mine": temporary_name(tmp_path / "x").name,
        "mine, old": temporary_name(tmp_path / "x").name,
        "living": f".x.safetensors-{alive}-0123abcd.tmp",
        "living, old": f".y.safetensors-{alive}-0123abcd.tmp",
        "dead": f".x.safetensors-{dead}-0123abcd.tmp",
        "elsewhere": ".x.safetensors-00000000-1-0123abcd.tmp",
        "elsewhere, old": ".y.safetensors-00000000-1-0123abcd.tmp",
        "unsigned": ".x.tmp",
        "unsigned, old": ".y.tmp",
        "no temporary file": "x.safetensors",
    }
    for what, name in names.items():
        (tmp_path / name).write_text("half a shard")
        if what.endswith("old"):
            os.utime(tmp_path / name, (time.time() - STALE - 60,) * 2)
    expected = {names[what] for what in ("dead", "elsewhere, old", "unsigned, old")}
    assert {p.name for p in litter(tmp_path)} == expected
    sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == set(names.values()) - expected


def test_opening_a_store_sweeps_it(tmp_path, dead):
    folder = FeatureStore(tmp_path, KEY, "pooled").folder
    for name in (f".x-{dead}-0123abcd.tmp", ".x.claim"):
        (folder / name).write_text(dead)
    FeatureStore(tmp_path, KEY, "pooled", read_only=True)
    assert len(list(folder.glob(".x*"))) == 2
    FeatureStore(tmp_path, KEY, "pooled")
    assert list(folder.glob(".x*")) == []


def test_a_claim_is_ones_own_until_it_is_given_back(tmp_path):
    first, second = (FeatureStore(tmp_path, KEY, "pooled") for _ in range(2))
    assert first.claim(["b", "a"])
    (path,) = first.folder.glob(".*.claim")
    os.utime(path, (1e9, 1e9))
    assert second.claim(["a", "b"])  # the same process: it may, and renews it
    assert path.stat().st_mtime > time.time() - 3600
    assert path.read_text() == process_tag()
    first.release(["a", "b"])
    assert not path.exists()
    first.release(["a", "b"])


def test_a_claim_counts_as_long_as_its_process(tmp_path, dead, alive):
    claims, path = Claims(tmp_path), tmp_path / ".shard.claim"
    path.write_text(alive)
    os.utime(path, (1e9, 1e9))
    assert not claims.claim("shard")
    claims.release("shard")
    assert path.read_text() == alive
    path.write_text(dead)
    assert claims.claim("shard")
    assert path.read_text() == process_tag()


@pytest.mark.parametrize("content", ["00000000-1", "", "what is this"])
def test_a_claim_of_another_machine_counts_while_it_is_fresh(content, tmp_path):
    claims, path = Claims(tmp_path), tmp_path / ".shard.claim"
    path.write_text(content)
    assert not claims.claim("shard")
    os.utime(path, (time.time() - FRESH - 60,) * 2)
    assert claims.claim("shard")
    assert path.read_text() == process_tag()


def test_where_no_claim_can_be_written_work_is_done(tmp_path):
    claims = Claims(tmp_path / "gone")
    assert claims.claim("shard")
    claims.release("shard")
