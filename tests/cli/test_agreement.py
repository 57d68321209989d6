"""The same request gives the same answers wherever its features are: on the disk, in memory, or nowhere."""

from __future__ import annotations

import pytest
import torch
from heard import UPSTREAM, features, head, said

from superbench.pipeline import prepared

QUICK = ("--steps", 6, "--eval-every", 2, "--lr", "1e-2,1e-3")
TASKS = {
    "ks": ("-t", "ks"),
    "pr": ("-t", "pr", "--head", "frame_linear:projector=8"),
    "asr": ("-t", "asr", "--head", "blstm:projector=6,hidden=6"),
}
SMALL = "30KB"  # of memory: less than the frames of the corpus in float64, 49 KB
PLACES = {
    "stored": ((), "disk"),
    "in memory": (("--store", "off"), "memory"),
    "streamed": (("--store", "off", "--memory", SMALL), "streamed"),
    "only time means stored": (("--store", "pooled"), "memory"),
    "only time means stored, the rest streamed": (("--store", "pooled", "--memory", SMALL), "streamed"),
    "read in blocks": (("--memory", SMALL), "disk"),
}


OF_TIME_MEANS = {  # which are a few bytes each
    "streamed": "memory",
    "only time means stored": "disk",
    "only time means stored, the rest streamed": "disk",
}


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch):
    monkeypatch.setattr(prepared, "LEAST_MEMORY", 1)


@pytest.fixture
def run(superbench, plugin, tones, tmp_path, monkeypatch):
    """Run in a home of its own: each knows nothing of the others."""
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    upstream = plugin(UPSTREAM, "heard.py")

    def score(home, *more, name="heard", quick=QUICK):
        given = ("-p", upstream, "-u", name, "--data", tones, *quick, "--json", "-q")
        ended = superbench("--home", tmp_path / home, "run", *given, *more)
        assert ended.code == 0, ended.err
        return ended.json

    return score


@pytest.mark.parametrize("task", TASKS)
def test_in_float64_the_predictions_are_the_same_to_the_byte(task, run):
    found = {}
    for place, (options, where) in PLACES.items():
        (result,) = run(place, *TASKS[task], "--precision", "float64", *options)
        assert result["features"]["where"] == (OF_TIME_MEANS.get(place, where) if task == "ks" else where)
        found[place] = said(result)
    assert all(found[place] == found["stored"] for place in PLACES)
    assert b"hypothesis" in found["stored"]["predictions.jsonl"]


def test_time_means_that_are_streamed_or_read_in_blocks_are_the_same(run):
    """The time means of 24 sounds are 1536 bytes in float64."""
    found = {}
    for place, options, where in (
        ("stored", (), "disk"),
        ("blocks", ("--memory", "1KB"), "disk"),
        ("streamed", ("--memory", "1KB", "--store", "off"), "streamed"),
        ("a step in parts", ("--memory", "100B", "--store", "off"), "streamed"),
    ):
        (result,) = run(place, "-t", "ks", "--precision", "float64", "--seeds", 3, *options)
        assert result["features"]["where"] == where
        found[place] = said(result)
    assert all(predictions == found["stored"] for predictions in found.values())


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_time_means_taken_from_frames_are_the_same(precision, run):
    (alone,) = run("alone", "-t", "er", "--precision", precision)
    assert features(alone) == ("disk", 24, 0, 0)
    run("frames first", "-t", "pr", "--precision", precision)
    (after,) = run("frames first", "-t", "er", "--precision", precision)
    assert features(after) == ("disk", 0, 24, 0)
    in_memory = run("in memory", "-t", "pr,er", "--precision", precision, "--store", "off")
    assert [features(r) for r in in_memory] == [("memory", 24, 0, 0), ("memory", 0, 24, 0)]
    assert said(alone) == said(after) == said(in_memory[1])


@pytest.mark.parametrize("task", TASKS)
def test_in_float32_the_heads_are_near_and_nearly_all_predictions_the_same(task, run):
    """The upstream says something else in every batch, by less than 2^-20 of each feature.

    Adam's first steps are as large as the learning rate whatever the gradient: six of 1e-4 part what a near-zero
    gradient decides by no more than 12e-4, and all else by rounding.
    """
    quick = ("--steps", 6, "--eval-every", 2, "--lr", "1e-4")
    found = {}
    for place, options, where in (
        ("stored", (), "disk"),
        ("in memory", ("--store", "off"), "memory"),
        ("streamed", ("--store", "off", "--memory", "500B" if task == "ks" else "15KB"), "streamed"),
    ):
        (found[place],) = run(place, *TASKS[task], *options, name="heard:last_bits=true", quick=quick)
        assert features(found[place])[0] == where
    stored, in_memory, streamed = map(head, found.values())
    assert stored.keys() == in_memory.keys() == streamed.keys()
    assert all(torch.equal(tensor, in_memory[name]) for name, tensor in stored.items())  # in the very same batches
    apart = torch.cat([(tensor - streamed[name]).abs().flatten() for name, tensor in stored.items()])
    assert 0 < float(apart.max()) <= 12e-4
    assert float(apart.median()) <= 1e-7
    lines = [said(result)["predictions.jsonl"].splitlines() for result in (found["stored"], found["streamed"])]
    assert sum(a == b for a, b in zip(*lines, strict=True)) >= 0.9 * len(lines[0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_a_lossy_form_is_the_same_wherever_it_is(dtype, run):
    lossy = ("-t", "asr", "--head", "frame_linear:projector=8", "--store-dtype", dtype)
    found = {}
    for place, options, where in (
        ("stored", (), "disk"),
        ("in memory", ("--store", "off"), "memory"),
        ("streamed", ("--store", "off", "--memory", "15KB"), "streamed"),
    ):
        (result,) = run(place, *lossy, *options)
        assert features(result)[0] == where
        assert result["features"]["form"] == f"frames-{dtype}"
        found[place] = result
    assert head(found["stored"]).keys() == head(found["in memory"]).keys()
    assert all(torch.equal(t, head(found["in memory"])[n]) for n, t in head(found["stored"]).items())
    assert said(found["stored"]) == said(found["in memory"])
    norms = [found[p]["layer_weights_norm_corrected"]["all"] for p in found]
    assert norms[2] == pytest.approx(norms[0], abs=1e-6)


def test_a_lossy_form_is_another_run_and_says_so(run):
    frames = ("-t", "asr", "--head", "frame_linear:projector=8")
    (plain,) = run("home", *frames)
    fingerprints = {plain["group"]}
    for dtype in ("float16", "bfloat16", "int8"):
        (result,) = run("home", *frames, "--store-dtype", dtype)
        assert features(result) == ("disk", 24, 0, 0)
        assert result["label"] == "custom"
        assert set(result["departures"]) - set(plain["departures"]) == {f"stored frames: {dtype} in place of float32"}
        assert result["upstream_key"] == plain["upstream_key"]
        fingerprints.add(result["group"])
    assert len(fingerprints) == 4


def test_time_means_do_not_ask_how_frames_are_stored(run):
    (plain,) = run("home", "-t", "ks")
    (same,) = run("home", "-t", "ks", "--store-dtype", "int8")
    assert same == plain
    assert plain["features"]["form"] == "pooled"


def test_float64_is_a_departure_of_its_own(run):
    (plain,) = run("home", "-t", "ks")
    (wide,) = run("home", "-t", "ks", "--precision", "float64")
    assert set(wide["departures"]) - set(plain["departures"]) == {"precision: float64 in place of float32"}
    assert wide["features"]["form"] == "pooled-float64"
    assert wide["features"]["bytes"] == 2 * plain["features"]["bytes"] == 24 * 2 * 4 * 8  # sounds, layers, width
    assert {t.dtype for t in head(wide).values()} == {torch.float64}
