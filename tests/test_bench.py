"""The benchmarks still run and show what they measured; how long anything takes is not tested here."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace

import pytest
from bench import blstm, comparison, encoder, memory, one_pass, store, upstream_speed
from bench.__main__ import NAMES
from click.testing import CliRunner

TINY = encoder.Shape(convolution=16, width=64, layers=1)


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_has_both_sizes(name):
    module = importlib.import_module(f"bench.{name}")
    assert callable(module.compare)
    assert isinstance(module.SMALL, module.Size)
    assert isinstance(module.FULL, module.Size)
    assert module.SMALL.rounds >= 3


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


def test_one_pass_gives_a_measured_and_an_extrapolated_line():
    pytest.importorskip("transformers", reason="transformers (the extra 'hf') is not installed")
    size = replace(one_pass.SMALL, shape=TINY, recordings=4, seconds=0.1, batch=2, steps=3, rounds=1)
    measured, extrapolated = one_pass.compare(size)
    assert (measured.extrapolated, extrapolated.extrapolated) == (False, True)
    assert "200000 steps" in extrapolated.note


def test_the_store_is_compared_for_a_filter_bank_and_an_encoder():
    pytest.importorskip("transformers", reason="transformers (the extra 'hf') is not installed")
    found = store.compare(store.Size(shape=TINY, batch=2, seconds=0.2, rounds=1))
    assert [c.a for c in found] == [
        "fbank_no_cmvn: computed",
        "encoder of 2 x 64: computed",
        "encoder of 2 x 64: first reading",
    ]


def test_memory_is_the_peak_of_the_process_it_names():
    small, large = memory.peak_memory("pass"), memory.peak_memory("b'x' * (200 * 2**20)")
    assert 150 < large - small < 250  # MiB: what this process holds itself is in neither


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
    from bench.__main__ import main

    outcome = CliRunner().invoke(main, ["--only", "speed"])
    assert outcome.exit_code == 2
    assert "one_pass" in outcome.output
