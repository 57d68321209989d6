"""Promise 1: an upstream runs once over each distinct sound, whatever is asked of its features."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import soundfile
from sounds import write_manifest

QUICK = ("--steps", 4, "--eval-every", 2, "--lr", "1e-2,1e-3")
BLSTM = ("--head", "blstm:projector=8,hidden=8")


@pytest.fixture
def run(superbench, counting):
    def score(manifest, *more, task="ks"):
        ended = superbench(
            "run", "-p", counting, "-u", "counting", "-t", task, "--data", manifest, *QUICK, "--json", "-q", *more
        )
        assert ended.code == 0, ended.err
        return ended.json

    return score


def counts(results):
    return [(r["features"]["segments"], r["features"]["computed"], r["features"]["reused"]) for r in results]


def test_once_per_sound_over_tasks_learning_rates_and_seeds(run, calls, tones):
    results = run(tones, "--seeds", "0..2", "--label-column", "label", task="sid,er")
    assert [(r["task"], r["seed"]) for r in results] == [(t, s) for t in ("sid", "er") for s in (0, 1, 2)]
    heard = calls()
    assert len(heard) == len(set(heard)) == 24
    assert counts(results) == [(24, 24, 0)] * 3 + [(24, 0, 24)] * 3


def test_what_a_task_turns_down_is_another_sound(run, calls, tones):
    results = run(tones, task="ks,er")  # KS is fed at -3 dB
    heard = calls()
    assert len(heard) == len(set(heard)) == 48
    assert counts(results) == [(24, 24, 0)] * 2
    for task in ("ks", "er"):
        again = run(tones, "--seeds", "1", task=task)
        assert counts(again) == [(24, 0, 24)]
    assert calls() == []


def test_every_crop_of_a_bank_is_encoded_once(run, calls, tmp_path):
    noise = np.random.default_rng(0)
    rows = []
    for split, number, seconds in [(s, n, 9.0 if n == 0 else 0.5) for s in ("train", "dev", "test") for n in (0, 1)]:
        name = f"{split}{number}.wav"
        soundfile.write(tmp_path / name, 0.1 * noise.standard_normal(int(seconds * 16000)), 16000)
        rows.append({"path": name, "split": split, "speaker": f"s{number}"})
    manifest = write_manifest(tmp_path / "m.csv", rows)
    (result,) = run(manifest, "--steps", 20, task="sid")
    heard = calls()
    assert len(heard) == len(set(heard)) == 4 + 1 + 2 + 2  # in train the long one is four crops; elsewhere it is whole
    assert counts([result]) == [(9, 9, 0)]
    splits = result["data"]["splits"]
    assert {s: (f["utterances"], f["recordings"]) for s, f in splits.items()} == {
        "train": (5, 2),
        "dev": (2, 2),
        "test": (2, 2),
    }


def test_once_per_sound_over_folds(run, calls, tones):
    (result,) = run(tones.with_name("folds.csv"), task="er")
    assert len(calls()) == 24
    assert set(result["fold_scores"]) == {"fold1", "fold2", "fold3"}
    assert counts([result]) == [(24, 24, 0)]


def test_frames_serve_every_task_that_reads_frames(run, calls, tones):
    frames = ("--head", "frame_linear:projector=8")
    results = run(tones, *frames, task="asr,pr")
    assert len(calls()) == 24
    assert counts(results) == [(24, 24, 0), (24, 0, 24)]
    (result,) = run(tones, *BLSTM, task="asr")
    assert calls() == []
    assert counts([result]) == [(24, 0, 24)]
    assert {r["features"]["form"] for r in [*results, result]} == {"frames"}


def test_the_same_command_again_reads_the_result_back(run, superbench, calls, tones):
    first = run(tones)
    calls()
    assert run(tones) == first
    assert calls() == []
    exported = superbench("leaderboard", "export", "--csv", "-")
    assert (exported.code, exported.out.count(first[0]["run_id"])) == (0, 1)


def test_one_more_seed_learning_rate_or_sound_computes_no_more_than_that(run, calls, tones, tmp_path):
    folder = shutil.copytree(tones.parent, tmp_path / "grown")
    run(folder / tones.name)
    calls()
    assert counts(run(folder / tones.name, "--seeds", "0,1", "--lr", "1e-4")) == [(24, 0, 24)] * 2
    assert calls() == []
    sound, rate = soundfile.read(folder / "train00.wav", dtype="int16")
    soundfile.write(folder / "new.wav", sound[:-200], rate)
    with (folder / tones.name).open("a") as manifest:
        manifest.write("new.wav,train,train-9,low,GO,G OW1\n")
    assert counts(run(folder / tones.name)) == [(25, 1, 24)]
    assert len(calls()) == 1


def test_a_sound_under_two_ids_and_two_names_counts_once(run, calls, tones, tmp_path):
    folder = shutil.copytree(tones.parent, tmp_path / "twice")
    shutil.copy(folder / "train00.wav", folder / "again.wav")
    with (folder / tones.name).open("a") as manifest:
        manifest.write("again.wav,train,train-0,low,GO,G OW1\n")
    (result,) = run(folder / tones.name)
    assert len(calls()) == 24
    assert counts([result]) == [(24, 24, 0)]
    assert result["data"]["splits"]["train"]["utterances"] == 13


def test_neither_names_nor_order_nor_place_nor_file_format_make_another_sound(run, calls, tones, tmp_path):
    run(tones)
    calls()
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    rows = []
    lines = tones.read_text().splitlines()
    for number, line in enumerate(reversed(lines[1:])):
        row = dict(zip(lines[0].split(","), line.split(","), strict=True))
        sound, rate = soundfile.read(tones.parent / row["path"], dtype="int16")
        soundfile.write(elsewhere / f"{number}.flac", np.asarray(sound), rate)
        rows.append({**row, "path": f"{number}.flac"})
    (result,) = run(write_manifest(elsewhere / "m.csv", rows))
    assert calls() == []
    assert counts([result]) == [(24, 0, 24)]


def test_the_plan_says_beforehand_how_often_it_will_run(superbench, counting, calls, run, tones):
    planned = superbench(
        "plan", "-p", counting, "-u", "counting", "-t", "ks", "--data", tones, *QUICK, "--json", "-q"
    ).json[0]
    assert (planned["segments"], planned["missing"], planned["candidates"]) == (24, 24, 2)
    assert calls() == []
    (result,) = run(tones)
    assert planned["bytes"] == result["features"]["bytes"] == 24 * 2 * 4 * 4  # sounds, layers, width, float32
    again = superbench(
        "plan", "-p", counting, "-u", "counting", "-t", "ks", "--data", tones, *QUICK, "--json", "-q"
    ).json[0]
    assert (again["missing"], again["fingerprint"]) == (0, result["group"])
