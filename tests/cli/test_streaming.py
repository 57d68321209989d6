"""Features that are computed as they are wanted: how often, what a stop costs, and what damage does to stored ones."""

from __future__ import annotations

import pytest
from heard import UPSTREAM, features, head, said

from superbench import pipeline
from superbench.features.memory_store import MemoryStore
from superbench.features.store import FeatureStore
from superbench.pipeline import gathering, placement, prepared
from superbench.training import checkpoints

QUICK = ("--steps", 6, "--eval-every", 2)
FRAMES = ("-t", "pr", "--head", "frame_linear:projector=8")
STREAMED = ("--store", "off", "--memory", "15KB")  # the frames of the corpus are 25 KB


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch):
    monkeypatch.setattr(prepared, "LEAST_MEMORY", 1)


@pytest.fixture
def command(superbench, plugin, tones, tmp_path, monkeypatch):
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    upstream = plugin(UPSTREAM, "heard.py")

    def give(*more, home="home", verb="run", name="heard", lr="1e-2,1e-3", data=(tones,)):
        manifests = [part for manifest in data for part in ("--data", manifest)]
        given = ("-p", upstream, "-u", name, *manifests, "--lr", lr, *QUICK, "--json", "-q")
        return superbench("--home", tmp_path / home, verb, *given, *more)

    return give


@pytest.fixture
def run(command):
    def score(*more, **where):
        ended = command(*more, **where)
        assert ended.code == 0, ended.err
        return ended.json

    return score


@pytest.mark.parametrize(
    "options",
    [
        FRAMES,
        (*FRAMES, "--seeds", "0..2", "--score-train"),
        ("-t", "er", "--memory", "500B", "--seeds", "0..2"),
        ("-t", "ks", "--memory", "100B"),
        ("-t", "pr", "--memory", "1KB"),
    ],
    ids=["frames", "frames, several seeds, train scored", "time means", "time means by parts", "frames by parts"],
)
def test_what_is_streamed_is_counted_and_foreseen(options, run, calls):
    (plan,) = run(*STREAMED, *options, verb="plan")
    assert calls() == []
    assert (plan["where"], plan["disk_bytes"], plan["missing"]) == ("streamed", 0, 24)
    assert plan["passes"].startswith("a pass per epoch and seed, shared by its learning rates")
    results = run(*STREAMED, *options)
    heard = len(calls())
    assert features(results[-1]) == ("streamed", 0, 0, heard)
    assert all(r["group"] == plan["fingerprint"] for r in results)
    assert plan["encodings"] == pytest.approx(heard, rel=0.2)


def test_learning_rates_share_what_is_streamed(run, calls):
    run(*FRAMES, *STREAMED, lr="1e-3", home="one")
    once = len(calls())
    run(*FRAMES, *STREAMED, lr="1e-2,1e-3,1e-4,1e-5", home="four")
    assert len(calls()) == once


def test_nothing_is_written_to_the_store_that_is_off(run, calls, tmp_path):
    for options in ((), STREAMED):
        run(*FRAMES, "--store", "off", *options)
    run("-t", "ks", "--store", "off")
    assert not (tmp_path / "home" / "store").exists()


@pytest.mark.parametrize("task", ["ks", "pr"])
def test_other_seeds_and_learning_rates_hear_nothing_again(task, run, calls):
    (first,) = run("-t", task)
    assert features(first) == ("disk", 24, 0, 0)
    assert len(calls()) == 24
    for result in run("-t", task, "--seeds", "1..3", lr="1e-4,1e-5"):
        assert features(result) == ("disk", 0, 24, 0)
    (plan,) = run("-t", task, "--seeds", "9", verb="plan")
    assert (plan["where"], plan["why"], plan["encodings"]) == ("disk", "all of it is stored", 0)
    assert calls() == []


STREAMS = [("--store", "off", "--memory", size) for size in ("12KB", "8KB")]  # of 15 KB, of which 5 KB train


@pytest.fixture
def few(tones):
    """A manifest of half of the training set."""
    lines = tones.read_text().splitlines()
    manifest = tones.with_name("few.csv")
    manifest.write_text("\n".join([lines[0], *lines[7:]]) + "\n")
    yield manifest
    manifest.unlink()


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize(
    "place", [*STREAMS, ("--store", "off"), ()], ids=["in windows", "in parts", "in memory", "stored"]
)
def test_stopped_after_an_evaluation_and_run_again_it_says_the_same(after, place, command, run, few, monkeypatch):
    """The upstream says something else in every batch."""
    frames = ("-t", "asr", "--head", "blstm:projector=6,hidden=6", *place)
    how = {"name": "heard:last_bits=true", "data": (few,)}
    (whole,) = run(*frames, home="whole", **how)
    assert whole["features"]["where"] == {0: "disk", 2: "memory", 4: "streamed"}[len(place)]
    save, done = checkpoints.save, []

    def dying(*given, **more):
        save(*given, **more)
        done.append(given)
        if len(done) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save", dying)
    assert command(*frames, home="stopped", **how).code == 130
    monkeypatch.setattr(checkpoints, "save", save)
    (again,) = run(*frames, home="stopped", **how)
    assert len(done) == after
    assert said(again) == said(whole)
    assert all(tensor.equal(head(whole)[name]) for name, tensor in head(again).items())
    assert again["scores"] == whole["scores"]
    assert again["candidates"] == whole["candidates"]
    assert again["layer_weights_norm_corrected"] == whole["layer_weights_norm_corrected"]


def test_frames_that_are_stored_in_part_are_streamed_in_part(run, calls, monkeypatch):
    run(*FRAMES, "--limit", 3)
    assert len(calls()) == 9
    monkeypatch.setattr(placement, "room", lambda root: 100)
    (plan,) = run(*FRAMES, "--memory", "15KB", verb="plan")
    assert (plan["where"], plan["missing"], plan["why"]) == (
        "streamed",
        15,
        "the disk has 100 B free, the frames need 12.8 KiB",
    )
    (result,) = run(*FRAMES, "--memory", "15KB")
    heard = calls()
    assert len(set(heard)) == 15
    assert features(result) == ("streamed", 0, 9, len(heard))
    assert plan["encodings"] == pytest.approx(len(heard), rel=0.2)


@pytest.fixture
def kept(monkeypatch):
    """Bytes that lie in memory after each piece of work, in all stores there together."""
    stores, seen = [], []

    class Seen(MemoryStore):
        def __init__(self, form):
            super().__init__(form)
            stores.append(self)

        def write(self, entries):
            super().write(entries)
            seen.append(sum(store.bytes for store in stores))

    monkeypatch.setattr(gathering, "MemoryStore", Seen)
    return seen


def test_two_tasks_that_keep_frames_in_memory_share_one_pass(run, calls, kept):
    results = run("-t", "pr,asr", "--head", "frame_linear:projector=8", "--store", "off")
    assert len(calls()) == 24
    assert [features(r) for r in results] == [("memory", 24, 0, 0), ("memory", 0, 24, 0)]
    assert max(kept) == results[0]["features"]["bytes"]


@pytest.mark.parametrize("first", ["pr", "asr"])
def test_of_what_is_in_memory_a_task_keeps_what_it_wants(first, run, calls, kept, tones, tmp_path):
    lines = tones.read_text().splitlines()
    fewer = tones.with_name("fewer.csv")
    fewer.write_text("\n".join([lines[0], *lines[4:]]) + "\n")
    tasks = ("pr", "asr") if first == "pr" else ("asr", "pr")
    results = run(
        "-t", ",".join(tasks), "--head", "frame_linear:projector=8", "--store", "off", data=(tones, f"asr={fewer}")
    )
    fewer.unlink()
    assert len(calls()) == 24
    assert [features(r) for r in results] == [
        ("memory", *counts, 0) for counts in ([(24, 0), (0, 21)] if first == "pr" else [(21, 0), (3, 21)])
    ]
    assert max(kept) == max(r["features"]["bytes"] for r in results)


@pytest.mark.parametrize("together", [True, False])
def test_what_does_not_fit_into_memory_beside_is_dropped(together, run, calls, kept):
    plans = run("-t", "er,pr", "--store", "off", verb="plan")
    pooled, frames = (plan["bytes"] for plan in plans)
    assert pooled == 24 * 2 * 4 * 4  # sounds, layers, width, float32
    results = run("-t", "er,pr", "--store", "off", "--memory", f"{frames + (pooled if together else pooled - 1)}B")
    assert [features(r) for r in results] == [("memory", 24, 0, 0)] * 2
    assert max(kept) == frames + (pooled if together else 0)
    assert len(calls()) == 48


def damage(store, segment):
    """Another last byte in the file of a segment; returns the segments of that file."""
    name = store._index.where[segment]
    content = (store.folder / name).read_bytes()
    (store.folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return [s for s, file in store._index.where.items() if file == name]


@pytest.mark.parametrize("task", ["pr", "ks", "asr"])
def test_damage_that_is_found_while_heads_train_is_mended(task, run, calls, tmp_path, monkeypatch):
    options = ("-t", task, *(("--head", "blstm:projector=6,hidden=6") if task == "asr" else ()))
    (whole,) = run(*options, home="whole")
    calls()
    run_prepared = pipeline.run_prepared

    def after_damage(one, gathered, progress):
        store = FeatureStore(tmp_path / "home" / "store", one.plan.upstream_key, one.form.name)
        # the last tensor in a file is of the segment whose name is last
        assert len(damage(store, store.segments[-1])) == 24
        return run_prepared(one, gathered, progress)

    monkeypatch.setattr(pipeline, "run_prepared", after_damage)
    (mended,) = run(*options)
    assert len(calls()) == 48
    assert features(mended) == ("disk", 48, 0, 0)
    assert said(mended) == said(whole)
    (warning,) = (w for w in mended["warnings"] if "not what was written" in w)
    assert warning in mended["features"]["warnings"]
    assert not any("not what was written" in w for w in whole["warnings"])
