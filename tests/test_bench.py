"""The benchmarks still run and show what they measured; how long anything takes is not tested here."""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import replace

import pytest
from bench import (
    accelerator,
    blstm,
    comparison,
    encoder,
    figures,
    frames_tasks,
    growth,
    memory,
    official,
    one_pass,
    s3prl_manner,
    side_by_side,
    store,
    together,
    upstream_speed,
    warm_start,
)
from bench.__main__ import NAMES, main
from click.testing import CliRunner

TINY = encoder.Shape(convolution=16, width=64, layers=1)


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_has_both_sizes(name):
    module = importlib.import_module(f"bench.{name}")
    assert callable(module.compare)
    assert isinstance(module.SMALL, module.Size)
    assert isinstance(module.FULL, module.Size)
    assert module.FULL.rounds >= 3
    assert module.SMALL.rounds >= 3 or name == "growth"  # nine processes a round


def test_the_table_has_one_line_per_comparison(capsys):
    found = blstm.compare(blstm.Size(width=8, batch=2, frames=(6,), rounds=2))
    comparison.show(found, as_json=False)
    _, _, heading, _, *lines = capsys.readouterr().out.splitlines()
    assert [c for c in comparison.COLUMNS if c not in heading] == []
    (line,) = [text for text in lines if text.strip()]
    for cell in ("blstm", "packed bidirectional LSTM", "two padded LSTMs", "width 8, batch 2, 6 frames"):
        assert cell in line


def test_json_has_every_round(capsys):
    one = comparison.Comparison(
        benchmark="x", a="old", b="new", unit="s", a_values=(6.0, 2.0, 4.0), b_values=(2.0, 2.0, 2.0)
    )
    comparison.show([one], as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["comparisons"][0]["ratios"] == [3.0, 1.0, 2.0]
    assert told["comparisons"][0]["ratio"] == 2.0
    assert told["environment"]["versions"]["torch"]


def test_measures_are_taken_in_turn():
    taken = []
    values = comparison.alternate({"A": lambda: taken.append("A") or 1.0, "B": lambda: taken.append("B") or 2.0}, 2)
    assert taken == ["A", "B", "A", "B"]
    assert values == {"A": (1.0, 1.0), "B": (2.0, 2.0)}


TRIALS = {
    "ks": one_pass.KS_SMALL,
    "sid": one_pass.SID_SMALL,
    "pr": frames_tasks.PR_SMALL,
    "asr": frames_tasks.ASR_SMALL,
}
TOY = {"shape": TINY, "recordings": 4, "seconds": 0.4, "batch": 2, "steps": 3, "rounds": 1, "hidden": 8}


@pytest.mark.parametrize("task", TRIALS)
def test_both_manners_are_measured_with_one_learning_rate_and_with_five(task):
    pytest.importorskip("transformers", reason="transformers (the extra 'hf') is not installed")
    found = side_by_side.compare_trial(replace(TRIALS[task], **TOY))
    form = "frames" if task in ("pr", "asr") else "pooled"
    assert [(c.benchmark, c.a, c.b) for c in found[:2]] == [
        (f"{task}, {rates}", "encoder at every step", f"encoder once, {form}")
        for rates in ("1 learning rate", "5 learning rates")
    ]
    assert found[1].a_values == (5 * found[0].a_values[0],)
    assert not any(c.extrapolated for c in found)
    assert [c.a for c in found[2:]] == (["5 runs, one learning rate each"] if task == "ks" else [])


@pytest.mark.parametrize("task", TRIALS)
def test_the_official_run_is_worked_out_of_a_moment(task):
    pytest.importorskip("transformers", reason="transformers (the extra 'hf') is not installed")
    found = side_by_side.compare_trial(replace(TRIALS[task], **TOY, extrapolated=1))
    assert {(c.extrapolated, c.unit) for c in found} == {(True, "h")}
    streamed = ["frames streamed, none kept"] if task in ("pr", "asr") else []
    assert [c.b for c in found[2:]] == streamed
    steps = {"pr": 100_000}.get(task, 200_000)
    for line, rates in zip(found, (1, 5), strict=False):
        assert f"A: {rates} x {steps} steps x " in line.note


def test_manners_that_do_not_learn_the_same_are_not_compared(monkeypatch):
    pytest.importorskip("transformers", reason="transformers (the extra 'hf') is not installed")
    honest = s3prl_manner.train
    monkeypatch.setattr(s3prl_manner, "train", lambda *a, **k: [1.01 * loss for loss in honest(*a, **k)])
    with pytest.raises(AssertionError, match="not close"):
        side_by_side.compare_trial(replace(one_pass.KS_SMALL, **TOY))


def test_the_arithmetic_of_the_official_runs():
    run = official.Official(steps=10, heard=3600.0, corpus=7200.0)
    costs = official.Costs(theirs=2.0, encode=0.5, step=36.0)
    theirs, ours, said = official.hours(run, costs, 5)
    assert (theirs, ours) == pytest.approx((5 * 10 * 2.0, 1.0 + 0.1))
    assert said == "A: 5 x 10 steps x 3600 s heard x 2 = 100 h; B: 2.0 h heard once x 0.5 + 10 steps x 36 s = 1 + 0.1 h"
    assert official.hours_streamed(run, costs)[0] == pytest.approx(10 * (0.5 + 0.01))


def test_what_the_official_runs_hear():
    heard = {name: (run.steps, run.heard) for name, run in official.OFFICIAL.items()}
    assert heard == {
        "ks": (200_000, 32.0),
        "sid": (200_000, 256.0),
        "pr": (100_000, pytest.approx(406.4)),
        "asr": (200_000, pytest.approx(203.2)),
    }
    assert official.OFFICIAL["ks"].corpus == 60_967
    assert official.OFFICIAL["pr"].corpus / 3600 == pytest.approx(111.4)


def test_the_recurrent_floor_is_three_times_the_products_of_a_forward_pass():
    from torch.utils.flop_counter import FlopCounterMode

    batch, frames, inputs, hidden = 2, 3, 5, 4
    with FlopCounterMode(display=False) as counter:
        for product in frames_tasks.lstm_products(batch, frames, inputs, hidden):
            product()
    assert counter.get_total_flops() == 3 * 2 * batch * frames * (inputs + hidden) * 4 * hidden


def test_the_recurrent_head_is_set_against_its_floor():
    (line,) = frames_tasks.compare(frames_tasks.Size(trials=(), batch=2, frames=4, hidden=8, rounds=2))
    assert (line.benchmark, line.b) == ("asr, floor", "its LSTMs' products alone")
    assert min(line.ratios) > 0


def test_the_store_is_compared_with_computing_and_with_plain_files():
    pytest.importorskip("transformers", reason="transformers (the extra 'hf') is not installed")
    size = store.Size(shape=TINY, batch=2, seconds=0.2, shards={"pooled": (2, 1), "frames": (1, 2)}, rounds=1)
    assert [(c.a, c.b) for c in store.compare(size)] == [
        ("fbank_no_cmvn: computed", "read from the store"),
        ("encoder of 2 x 64: computed", "read from the store"),
        ("encoder of 2 x 64: first reading", "a later reading"),
        ("written", "files copied and synced"),
        ("opened, checked, read", "files read"),
        ("written", "files copied and synced"),
        ("opened, checked, read", "files read"),
    ]


def test_a_plain_copy_is_the_same_bytes(tmp_path):
    files = [tmp_path / "a", tmp_path / "b"]
    files[0].write_bytes(b"abc")
    store.copy_synced(*files)
    assert files[1].read_bytes() == b"abc"
    buffer = bytearray(4)
    store.read_into(buffer, files)
    assert bytes(buffer) == b"abc\0"


def test_a_large_store_is_opened_up_to_the_first_step():
    (line,) = warm_start.compare(warm_start.Size(entries=130, rounds=1))
    assert (line.benchmark, line.a) == ("warm start", "store opened, read, first step")
    assert line.note.startswith("130 entries in 3 shards; opened in ")


def test_memory_is_the_peak_of_the_process_it_names():
    small, large = memory.peak_memory("pass"), memory.peak_memory("b'x' * (200 * 2**20)")
    assert 150 < large - small < 250  # MiB: what this process holds itself is in neither


def test_private_memory_is_the_peak_of_the_process_it_names():
    if not growth.private_bytes(os.getpid()):
        pytest.skip("this system does not tell which memory of a process is private")
    before = growth.private_bytes(os.getpid())
    held = b"x" * (200 * 2**20)
    assert 190 < (growth.private_bytes(os.getpid()) - before) / 2**20 < 210
    del held
    work = "import hashlib; hashlib.sha256(b'x' * (200 * 2**20))"  # long enough to be looked at
    assert 200 < growth.peak_private([sys.executable, "-c", work]) / 2**20 < 230


def test_a_process_that_fails_is_no_point_of_a_curve():
    with pytest.raises(AssertionError, match="what went wrong"):
        growth.peak_private([sys.executable, "-c", "raise SystemExit('what went wrong')"])


GROWN = growth.Size(
    recordings={"pooled": 8, "frames": 4},
    seconds={"pooled": 0.1, "frames": 0.1},
    utterances=(2,),
    layers=(2, 3),
    candidates=((1, 1), (2, 2)),
    steps={"pooled": 3, "frames": 2},
    memory=256 * 2**20,
    rounds=2,
)


@pytest.mark.parametrize("form", growth.HEADS)
def test_a_point_of_growth_is_a_run(form, superbench, tmp_path):
    manifests = growth.write_corpora(tmp_path, GROWN)
    point = growth.Point(form=form, steps=2, utterances=2, layers=3, rates=2, seeds=2)
    ended = superbench(*growth.arguments(tmp_path / "home", manifests, point, GROWN.memory))
    assert (ended.code, ended.err) == (0, "")
    result = json.loads(next((tmp_path / "home").rglob("result.json")).read_text())
    assert result["timings"]["train"] > 0
    assert result["features"]["segments"] == 2 * GROWN.recordings[form] + 2 * growth.HELD_OUT
    assert len(result["candidates"]) in (2, 4)  # of one seed, or of both


def test_growth_gives_a_curve_for_every_cost(monkeypatch):
    def measured(root, manifests, point, memory):
        work = point.utterances * point.layers * point.rates * point.seeds
        return {"time of a step": float(work), "store": 1.0, "private memory": 100.0 + point.utterances}

    monkeypatch.setattr(growth, "measured", measured)
    found = growth.compare(GROWN)
    assert [(c.benchmark, c.times, c.ratio) for c in found if c.benchmark.startswith("time")] == [
        ("time of a step, pooled, utterances", 2.0, 2.0),
        ("time of a step, pooled, layers", 1.5, 1.5),
        ("time of a step, pooled, candidates", 4.0, 4.0),
        ("time of a step, frames, utterances", 2.0, 2.0),
    ]
    assert {c.unit for c in found if c.benchmark.startswith(("store", "private"))} == {"MiB"}
    assert all(len(c.ratios) == 2 for c in found)


def test_only_a_larger_corpus_can_break_the_promise_of_memory(monkeypatch):
    def measured(root, manifests, point, memory):
        return {"private memory": 257.0 * point.utterances * point.layers * point.rates}

    monkeypatch.setattr(growth, "measured", measured)
    assert [c.benchmark for c in growth.compare(GROWN) if c.broken] == [
        "private memory, pooled, utterances",
        "private memory, frames, utterances",
    ]


@pytest.mark.parametrize(
    ("more", "text"), [(356.0, ""), (357.0, "257 MiB of private memory more, with --memory 256MiB")]
)
def test_the_budget_is_held_against_the_worst_round(more, text):
    assert growth.broken_promise((100.0, more), (100.0, 100.0), 256 * 2**20) == text


def test_a_broken_promise_is_told_and_ends_with_1(tmp_path, monkeypatch):
    line = replace(_three_lines()[0], broken="too much")
    monkeypatch.setattr(blstm, "compare", lambda _: [line])
    monkeypatch.setattr("bench.__main__.__package__", "bench")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    outcome = CliRunner().invoke(main, ["--only", "blstm", "--out", str(tmp_path)])
    assert outcome.exit_code == 1
    assert "BROKEN: x: old against new: too much" in outcome.output
    assert "one, two; BROKEN: too much" in (tmp_path / "figures.csv").read_text()


def test_heads_and_encoders_are_measured_on_a_device():
    pytest.importorskip("transformers", reason="transformers (the extra 'hf') is not installed")
    size = accelerator.Size(shape=TINY, recordings=2, seconds=0.2, hidden=8, part=32, steps=1, rounds=1)
    extraction, *heads = accelerator.measure(size, "cpu")
    assert (extraction.a, extraction.b) == ("float32", "bfloat16")
    assert [c.benchmark for c in heads] == [f"head of {name} on cpu" for name in ("ks", "sid", "pr", "asr")]
    assert all(c.a == "5 learning rates one by one" for c in heads)


def test_without_a_gpu_its_part_is_skipped_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert accelerator.compare(accelerator.SMALL) == ()
    assert "skipped, there is no GPU" in capsys.readouterr().err


CURVE = "time of a step, pooled, layers"


def _three_lines():
    common = {"a": "old", "b": "new", "unit": "s"}
    return [
        comparison.Comparison(benchmark="x", a_values=(6.0, 1.0), b_values=(2.0, 4.0), note="one, two", **common),
        comparison.Comparison(benchmark="y", a_values=(3.0,), b_values=(1.0,), extrapolated=True, **common),
        comparison.Growth(
            benchmark="time of a step, pooled, layers",
            a_values=(3.0,),
            b_values=(2.0,),
            of="layers",
            times=2.0,
            **common,
        ),
    ]


def test_every_round_is_a_line_of_the_table_on_disk(tmp_path):
    figures.write_table(_three_lines(), tmp_path / "figures.csv")
    assert (tmp_path / "figures.csv").read_text().splitlines() == [
        "benchmark,a,b,unit,round,a_value,b_value,ratio,note,extrapolated",
        'x,old,new,s,1,6.0,2.0,3.0,"one, two",false',
        'x,old,new,s,2,1.0,4.0,0.25,"one, two",false',
        "y,old,new,s,1,3.0,1.0,3.0,,true",
        f'"{CURVE}",old,new,s,1,3.0,2.0,1.5,,false',
    ]


def test_the_picture_has_labelled_axes_and_every_ratio_and_curve():
    figure = pytest.importorskip("matplotlib.figure", reason="matplotlib (the extra 'dev') is not installed")
    left, right = figure.Figure().subplots(1, 2)
    *ratios, curve = _three_lines()
    figures.draw_ratios(left, ratios)
    figures.draw_growth(right, [curve])
    assert [t.get_text() for t in left.get_yticklabels()] == ["x: old / new", "y: old / new"]
    assert [t.get_text() for t in left.texts] == ["1.62", "3"]
    assert left.get_xlabel().startswith("what A takes over what B takes")
    assert (right.get_xlabel(), right.get_ylabel()) == (
        "times as much work (logarithmic)",
        "times the cost (logarithmic)",
    )
    assert CURVE in [t.get_text() for t in right.get_legend().get_texts()]
    drawn = [line.get_xydata().tolist() for line in right.lines]
    assert [[1.0, 1.0], [2.0, 1.5]] in drawn


def test_encoders_are_compared_on_three_lists_of_sounds(monkeypatch):
    pytest.importorskip("transformers", reason="transformers (the extra 'hf') is not installed")
    monkeypatch.delenv("SUPERBENCH_SHARED", raising=False)
    monkeypatch.setattr(upstream_speed, "peak_memory", lambda *_: 1.0)
    monkeypatch.setattr(upstream_speed, "fast_options", lambda _: {"bfloat16": {"dtype": "bfloat16"}})
    monkeypatch.setattr(upstream_speed, "EDGE", 64)
    *found, peak = upstream_speed.compare(upstream_speed.Size(shape=TINY, words=4, utterances=2, rounds=1))
    ways = [
        "transformers, one by one",
        "transformers, padded in 8s",
        "ours, one by one",
        "ours, bfloat16",
        "floor",
    ]
    on_cpu = [(c.benchmark, c.a) for c in found if c.benchmark.endswith("cpu")]
    assert on_cpu == [(f"{name} on cpu", way) for name in ("words", "utterances", "mixed") for way in ways]
    assert {c.b for c in found} == {"ours, batches by length"}
    assert (peak.unit, peak.ratio) == ("MiB", 1.0)


def test_the_floor_counts_what_the_architecture_multiplies():
    """Against torch's own count, where the positional convolution gives one frame more, which is cut off."""
    transformers = pytest.importorskip("transformers", reason="transformers (the extra 'hf') is not installed")
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    config = transformers.HubertConfig(
        conv_dim=[16] * 7,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=96,
        attn_implementation="eager",
    )
    model = transformers.HubertModel(config).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 20000))
    one_frame = 2 * 64 * 64 // config.num_conv_pos_embedding_groups * config.num_conv_pos_embeddings
    assert encoder.operations(config, 20000) == counter.get_total_flops() - one_frame


def test_only_known_names_are_taken():
    outcome = CliRunner().invoke(main, ["--only", "speed"])
    assert outcome.exit_code == 2
    assert "one_pass" in outcome.output


@pytest.mark.parametrize("lines", [slice(0, 2), slice(2, 3), slice(0, 3)])
def test_figures_are_kept_beside_the_table(lines, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib (the extra 'dev') is not installed")
    monkeypatch.setattr(blstm, "compare", lambda _: _three_lines()[lines])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("bench.__main__.__package__", "bench")
    outcome = CliRunner().invoke(main, ["--only", "blstm", "--out", str(tmp_path / "kept")])
    assert outcome.exit_code == 0, outcome.output
    assert sorted(f.name for f in (tmp_path / "kept").iterdir()) == ["figures.csv", "figures.png"]
    assert (tmp_path / "kept/figures.png").read_bytes().startswith(b"\x89PNG")


def test_candidates_together_are_set_against_the_same_alone_in_time_and_in_score():
    toy = replace(
        together.SMALL, shapes=((2, 8),), recordings=80, steps=2, rounds=1, fitted=(2, 8), trained=10, seeds=2
    )
    found = together.compare(toy)
    assert [c.unit for c in found] == ["ms", *["accuracy"] * 5]
