"""`superbench store`: what is there, whether it is whole, and room where it is wanted."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import torch

from superbench.features.store import FeatureStore
from superbench.features.store_catalog import USED, describe

FIRST, SECOND = "ab" * 32, "cd" * 32


@pytest.fixture
def root(tmp_path):
    """Two upstreams: one with time means and int8 frames, the other, used last, with time means in two shards."""
    root = tmp_path / "store"
    for key, form, dtype, shards, used in (
        (FIRST, "pooled", "float32", ["a"], 1e9),
        (FIRST, "frames", "int8", ["a"], 1e9 + 3600),
        (SECOND, "pooled", "float32", ["ab", "c"], 1e9 + 7200),
    ):
        store = FeatureStore(root, key, form, dtype)
        for i, names in enumerate(shards):
            store.write({n: [torch.ones(2, 1000, 3) if form == "frames" else torch.ones(2, 3)] for n in names})
            written = store.folder / store._index.where[names[0]]
            os.utime(written, (1e9 + i, 1e9 + i))
        store.refresh()
        store.save_index()
        os.utime(store.folder / USED, (used, used))
    describe(root, FIRST, {"upstream": "hubert:layer=3", "widths": [3, 3]})
    return root


@pytest.fixture
def command(superbench, root):
    return lambda *arguments: superbench("--store-dir", root, "store", *arguments)


def files(root):
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def total(root):
    return sum(p.stat().st_size for p in root.rglob("*") if p.is_file())


def damage(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def shard(root, key, form):
    return next((root / key[:2] / key / form).glob("*.safetensors"))


def test_ls_says_what_is_stored_of_whom(command, root):
    before = files(root)
    found = command("ls", "--json").json
    assert [(f["upstream"], f["key"], f["form"], f["entries"], f["shards"]) for f in found] == [
        ("", SECOND, "pooled", 3, 2),
        ("hubert:layer=3", FIRST, "frames-int8", 1, 1),
        ("hubert:layer=3", FIRST, "pooled", 1, 1),
    ]
    assert [f["last_used"] for f in found] == [f"2001-09-09T{h:02}:46:40+00:00" for h in (3, 2, 1)]
    about = root / "ab" / FIRST / "about.json"
    assert sum(f["bytes"] for f in found) == total(root) - about.stat().st_size
    told = command("ls").out
    for words in ("hubert:layer=3", "(not said)", FIRST[:12], "frames-int8", "KiB", str(root)):
        assert words in told
    assert files(root) == before


def test_ls_counts_what_was_put_aside(command, root):
    damage(shard(root, FIRST, "pooled"))
    assert command("verify").code == 7
    found = {(f["key"], f["form"]): f for f in command("ls", "--json").json}
    assert (found[FIRST, "pooled"]["damaged"], found[FIRST, "pooled"]["entries"]) == (1, 0)
    assert "1 damaged" in command("ls").out


def test_an_empty_store_is_no_error(superbench, tmp_path):
    place = ("--store-dir", tmp_path / "nothing")
    assert superbench(*place, "store", "ls", "--json").json == []
    assert superbench(*place, "store", "ls").code == 0
    assert superbench(*place, "store", "verify", "--json").json == {
        "shards": 0,
        "entries": 0,
        "bytes": 0,
        "damaged": [],
    }
    assert superbench(*place, "store", "prune", "--max-bytes", 0).code == 0
    assert not (tmp_path / "nothing").exists()


def test_verify_of_a_whole_store(command, root):
    before = files(root)
    ended = command("verify", "--json")
    assert (ended.code, ended.json["shards"], ended.json["entries"], ended.json["damaged"]) == (0, 4, 5, [])
    assert "5 entries are whole" in command("verify").out
    assert files(root) == before


@pytest.mark.parametrize("as_json", [True, False])
def test_verify_puts_damage_aside_and_says_so(as_json, command, root):
    broken = [shard(root, FIRST, "frames-int8"), shard(root, FIRST, "pooled")]
    for path in broken:
        damage(path)
    ended = command("verify", *(["--json"] if as_json else []))
    assert ended.code == 7
    assert "2 of 4 shards were damaged" in ended.err
    assert all(str(path) in ended.out for path in broken)
    assert not any(path.exists() for path in broken)
    aside = sorted(root.rglob("*.corrupt-*"))
    assert len(aside) == 2
    if as_json:
        assert [d["file"] for d in ended.json["damaged"]] == [str(p) for p in broken]
        assert sorted(d["put_aside"] for d in ended.json["damaged"]) == [str(p) for p in aside]
    assert command("verify").code == 0
    assert FeatureStore(root, FIRST, "pooled").missing(["a"]) == ["a"]


def test_prune_takes_what_was_not_used_for_longest_first_and_whole_shards(command, root):
    sizes = {p: p.stat().st_size for p in root.rglob("*") if p.is_file()}
    oldest = shard(root, FIRST, "pooled")
    ended = command("prune", "--max-bytes", total(root) - 1, "--json")
    assert ended.code == 0, ended.err
    gone = {p for p in sizes if not p.exists()}
    assert gone == {oldest, oldest.with_name("index"), oldest.with_name(USED)}
    assert ended.json["freed"] == sum(sizes[p] for p in gone)
    assert ended.json["after"] == total(root) == ended.json["before"] - ended.json["freed"]
    assert {f["file"]: f["bytes"] for f in ended.json["files"]} == {str(p): sizes[p] for p in gone}
    assert not oldest.parent.exists()
    assert FeatureStore(root, FIRST, "frames", "int8", read_only=True).missing(["a"]) == []
    first, second = sorted((root / "cd" / SECOND / "pooled").glob("*.safetensors"), key=lambda p: p.stat().st_mtime)
    kept = total(second.parent) - first.stat().st_size
    assert command("prune", "--max-bytes", kept).code == 0
    assert (first.exists(), second.exists(), (root / "ab").exists()) == (False, True, False)
    assert FeatureStore(root, SECOND, "pooled").missing(["a", "b", "c"]) == ["a", "b"]


def test_prune_takes_damaged_and_leftover_files_first_and_none_that_is_being_written(command, root):
    folder = root / "cd" / SECOND / "pooled"  # the one that was used last
    damage(shard(root, SECOND, "pooled"))
    assert command("verify").code == 7
    old, new, claim = folder / ".x.tmp", folder / ".y.tmp", folder / ".x.claim"
    for path in (old, new, claim):
        path.write_bytes(b"x" * 100)
    for path in (old, claim):
        os.utime(path, (time.time() - 100_000,) * 2)
    (aside,) = folder.glob("*.corrupt-*")
    before = total(root)
    assert command("prune", "--max-bytes", before).code == 0
    assert total(root) == before
    assert command("prune", "--max-bytes", before - 1).code == 0
    assert (aside.exists(), old.exists()) == (False, True)
    ended = command("prune", "--max-bytes", total(root) - 150)
    assert (old.exists(), claim.exists(), new.exists()) == (False, False, True)
    assert "left over" in ended.out
    assert len(list(root.rglob("*.safetensors"))) == 3
    assert command("prune", "--max-bytes", 0).code == 0
    assert files(root) == [str(p.relative_to(root)) for p in (new, folder / "index", folder / USED)]


def test_prune_to_nothing_leaves_no_folder_of_ours(command, root):
    (root / "README").write_text("not ours")
    ended = command("prune", "--max-bytes", "0", "--json")
    assert (ended.json["after"], files(root)) == (0, ["README"])
    assert [p.name for p in root.iterdir()] == ["README"]


def test_a_dry_run_deletes_nothing(command, root):
    before = files(root)
    dry = command("prune", "--max-bytes", "0", "--dry-run", "--json").json
    assert (dry["dry_run"], files(root)) == (True, before)
    told = command("prune", "--max-bytes", "0", "--dry-run").out
    assert "would free" in told
    assert files(root) == before
    assert command("prune", "--max-bytes", "0", "--json").json == {**dry, "dry_run": False}


@pytest.mark.parametrize("size", ["ten", "-5", "10XB", ""])
def test_a_size_that_cannot_be_read_deletes_nothing(size, command, root):
    before = files(root)
    ended = command("prune", f"--max-bytes={size}")
    assert (ended.code, "no amount of bytes" in ended.err, files(root)) == (2, True, before)
    assert command("prune").code == 2


def test_pruning_under_an_open_store_costs_it_time_only(command, root):
    reading = FeatureStore(root, SECOND, "pooled")
    held = reading.read("a")
    assert command("prune", "--max-bytes", 0).code == 0
    assert held[0].tolist() == reading.read("a")[0].tolist() == [[1.0] * 3] * 2
    assert reading.missing(["a", "b", "c"]) == ["a", "b", "c"]
    reading.write({"a": [torch.ones(2, 3)]})
    assert reading.missing(["a", "b"]) == ["b"]


def test_path_of_the_store_and_of_one_upstream(command, root):
    assert command("path").out == f"{root}\n"
    assert command("path", "ab").out == f"{root / 'ab' / FIRST}\n"
    none = command("path", "ef")
    assert (none.code, "no stored upstream's key begins with 'ef'" in none.err) == (2, True)
    FeatureStore(root, "ab" + "12" * 31, "pooled")
    several = command("path", "ab")
    assert (several.code, FIRST[:16] in several.err) == (2, True)


def test_describing_an_upstream_twice_writes_once(root):
    about = root / "ab" / FIRST / "about.json"
    before = about.stat().st_ino
    describe(root, FIRST, {"widths": [3, 3], "upstream": "hubert:layer=3"})
    assert about.stat().st_ino == before
    describe(root, FIRST, {"upstream": "hubert"})
    assert about.read_text() == '{"upstream":"hubert"}\n'


def test_an_upstream_whose_description_is_no_json_is_listed_without_a_name(command, root):
    (root / "ab" / FIRST / "about.json").write_text("{")
    assert {f["upstream"] for f in command("ls", "--json").json} == {""}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--store", "DIR", "run", "-u", "fbank", "-t", "ks"),
        ("--store=DIR", "run", "-u", "fbank", "-t", "ks"),
        ("-q", "--store", "off", "plan"),
        ("--store", "DIR", "store", "ls"),
        ("run", "-u", "fbank", "--store", "/some/DIR", "-t", "ks"),
        ("run", "-u", "fbank", "-t", "ks", "--store=~/DIR"),
        ("plan", "--store", "../DIR", "-u", "fbank"),
    ],
)
def test_the_old_name_of_the_place_is_told_the_new_one(arguments, superbench):
    ended = superbench(*arguments)
    assert ended.code == 2
    assert "--store-dir DIR" in ended.err


def test_a_folder_here_is_a_place_and_a_mode_is_a_mode(superbench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("features", "off"):
        (tmp_path / name).mkdir()
    assert "--store-dir DIR" in superbench("run", "--store", "features", "-u", "fbank", "-t", "ks").err
    assert "--store-dir DIR" not in superbench("run", "--store", "off", "-u", "no such", "-t", "ks").err


def test_the_place_may_stand_anywhere(superbench, root):
    for arguments in (
        ("store", "path", "--store-dir", root),
        ("--store-dir", root, "store", "path"),
        ("store", f"--store-dir={root}", "path"),
    ):
        assert superbench(*arguments).out == f"{root}\n"


@pytest.mark.parametrize("arguments", [["ls"], ["verify"], ["prune", "--max-bytes", "1GB"], ["path"]])
def test_no_command_loads_torch(arguments, root):
    code = (
        "import sys\nfrom superbench.cli.main import invoke\ncode = invoke(sys.argv[1:])\n"
        "assert not {'torch', 'numpy', 'pandas', 'sqlalchemy', 'pydantic'} & set(sys.modules)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--store-dir", str(root), "store", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
