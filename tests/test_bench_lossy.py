"""The benchmark of lossy frames: its differences are of the same seed, its errors of what the store gives back."""

from __future__ import annotations

import csv

import numpy
import pytest
import soundfile
from bench import digit_strings, lossy

from superbench.features.stored_forms import MEASURED, SEEDS

LOSS = lossy.Loss(of_features=0.01, of_deviation=0.02, bytes=3 * 2**20)
# A whole run's quick form: a linear head on frames of 24 tones.
TINY = {"task": "ks", "fbank": "fbank_no_cmvn", "lr": 1e-2, "steps": 100, "head": "mean_of_frames"}


def line(lossy_scores, exact_scores):
    return lossy.Line(
        task="pr",
        metric="per",
        features="fbank",
        form="frames-int8",
        lossy=lossy_scores,
        exact=exact_scores,
        loss=LOSS,
    )


def test_a_difference_is_of_the_same_seed():
    one = line([50.0, 62.0, 73.0], [51.0, 60.0, 70.0])
    assert one.difference == pytest.approx((-1 + 2 + 3) / 3)
    assert one.deviation == pytest.approx((13 / 3) ** 0.5)
    assert one.seeds == pytest.approx((271 / 3) ** 0.5)
    assert dict(zip(lossy.COLUMNS, one.cells(), strict=True)) == {
        "task": "pr",
        "metric": "per",
        "features": "fbank",
        "form": "frames-int8",
        "float32": "60.33",
        "SD of seeds": "9.50",
        "difference ± SD": "+1.33 ± 2.08",
        "error, % of rms": "1.000",
        "% of deviation": "2.000",
        "MiB": "3.0",
        "seeds": "3",
    }


def test_strings_are_recordings_of_one_speaker_and_one_split(tmp_path):
    spoken, rows = {}, [("none.wav", "dev", "NONE", "a")]
    for number in range(20):  # five recordings of each
        split, speaker = ("train", "test")[number % 2], "ab"[number // 2 % 2]
        soundfile.write(tmp_path / f"{number}.wav", numpy.full(10, number / 100), 8000)
        rows.append((f"{number}.wav", split, f"WORD{number}", speaker))
        spoken.setdefault((split, speaker), set()).add(f"WORD{number}")
    with (tmp_path / "digits.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "split", "text", "speaker"), *rows])
    digit_strings.write_strings(tmp_path / "digits.csv", tmp_path / "out", {"train": 3, "test": 2})

    with (tmp_path / "out/strings.csv").open(newline="") as stream:
        written = list(csv.DictReader(stream))
    assert [row["split"] for row in written] == ["train"] * 3 + ["test"] * 2
    for row, speaker in zip(written, "abaab", strict=True):
        words = row["text"].split()
        assert len(words) == 5
        assert set(words) == spoken[row["split"], speaker]
        wave, rate = soundfile.read(tmp_path / "out" / row["path"])
        assert rate == 8000
        assert wave == pytest.approx(numpy.repeat([int(w.removeprefix("WORD")) / 100 for w in words], 10), abs=1e-4)


def test_every_lossy_form_is_run_and_read_back(tones, tmp_path):
    bench = lossy.Bench(data=tones.parent, home=tmp_path, seeds=2, quick=True)
    found = list(bench.lines(lossy.Trial(manifest=tones.name, **TINY), "fbank_no_cmvn", "fbank"))
    assert [(one.form, one.metric, len(one.lossy)) for one in found] == [
        (f"frames-{dtype}", "accuracy", 2) for dtype in ("float16", "bfloat16", "int8")
    ]
    assert {tuple(one.exact) for one in found} == {tuple(found[0].exact)}
    half, rough, bytes_ = (one.loss for one in found)
    assert 0 < half.of_features < 2**-11 < rough.of_features < 2**-8
    assert half.of_features < half.of_deviation
    assert half.bytes == rough.bytes
    assert half.bytes / 2 < bytes_.bytes < half.bytes  # one byte each, and the scales
    assert bytes_.of_features < 1 / 254


def test_what_plan_prints_is_what_the_benchmark_measures():
    measured = [(c.task, c.metric, c.features) for c in MEASURED]
    assert len(set(measured)) == len(measured)
    for trial in lossy.TRIALS:
        for metric in lossy.METRICS[trial.task]:
            assert (trial.task, metric, trial.fbank) in measured
            assert ((trial.task, metric, "a random HuBERT") in measured) == trial.encoder
    assert {len(c.differences) for c in MEASURED} == {len(lossy.LOSSY)}
    assert all(tuple(c.differences) == lossy.LOSSY for c in MEASURED)
    (option,) = [p for p in lossy.main.params if p.name == "seeds"]
    assert option.default == SEEDS
