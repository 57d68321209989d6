"""A second command reads no sound to check it: what was found is remembered, and told as before."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import soundfile

import superbench as face
from superbench import audio, recordings

LONG_AGO = 10**18  # ns since 1970: the year 2001
QUICK = ("--steps", "2", "--lr", "1e-2")
SOUNDS = 24


@pytest.fixture
def old_tones(tones, tmp_path):
    """The tones, as files that were written long ago; one of them is clipped, which is a warning."""
    folder = shutil.copytree(tones.parent, tmp_path / "old")
    loud = np.random.default_rng(7).standard_normal(8000) * 9.0
    soundfile.write(folder / "train00.wav", loud.astype("float32"), 16000, subtype="PCM_16")
    for sound in folder.glob("*.wav"):
        os.utime(sound, ns=(LONG_AGO, LONG_AGO))
    return folder / tones.name


@pytest.fixture
def inspected(monkeypatch):
    """Take the number of recordings that were read to be checked since the last time."""
    names = []
    inspect = audio.inspect

    def noted(row, **feed):
        names.append(row.path.name)
        return inspect(row, **feed)

    monkeypatch.setattr(audio, "inspect", noted)

    def take():
        taken = len(names)
        names.clear()
        return taken

    return take


@pytest.fixture
def run(superbench, counting, old_tones):
    def score(*more, command="run", task="ks"):
        options = () if command == "corpus" else ("-p", counting, "-u", "counting", *QUICK)
        words = ("corpus", "check") if command == "corpus" else (command,)
        return superbench("-q", *words, *options, "-t", task, "--data", old_tones, *more, "--json")

    return score


def test_a_second_run_reads_no_sound_and_tells_the_same(run, inspected, calls):
    first = run()
    assert (first.code, inspected(), len(calls())) == (0, SOUNDS, SOUNDS)
    second = run("--seeds", 1)
    assert (second.code, inspected(), len(calls())) == (0, 0, 0)
    (one,), (other,) = first.json, second.json
    assert [w["kind"] for w in one["data"]["warnings"]] == ["clipped"]
    assert other["data"] == one["data"]
    assert other["plan"]["corpus_sha"] == one["plan"]["corpus_sha"]


def test_what_one_task_checked_the_next_one_knows(run, inspected):
    ended = run("--head", "blstm:projector=2,hidden=2", task="pr,asr")  # ks is fed louder: other samples
    assert (ended.code, len(ended.json), inspected()) == (0, 2, SOUNDS)


def test_a_plan_remembers_too_and_python_knows_what_the_command_line_found(run, inspected, old_tones, counting):
    assert (run(command="plan").code, inspected()) == (0, SOUNDS)
    given = {
        "upstream": "counting",
        "plugins": [str(counting)],
        "task": "ks",
        "data": old_tones,
        "steps": 2,
        "lr": [0.1],
    }
    result = face.run(**given)
    assert (result.task, inspected()) == ("ks", 0)
    again = face.run(**given, reread=True)
    assert (again.run_id, again.finished, inspected()) == (result.run_id, result.finished, SOUNDS)


def test_reread_reads_everything_and_is_no_other_run(run, inspected):
    first = run()
    again = run("--reread")
    assert (again.code, inspected()) == (0, 2 * SOUNDS)
    assert again.json == first.json


def test_corpus_check_reads_everything_always_and_a_run_after_it_nothing(run, inspected):
    said = run(command="corpus")
    assert (said.code, inspected()) == (0, SOUNDS)
    again = run(command="corpus")
    assert (again.json, inspected()) == (said.json, SOUNDS)
    assert [p["kind"] for p in said.json["problems"]] == ["clipped"]
    assert (run().code, inspected()) == (0, 0)


def test_a_changed_recording_is_read_and_an_error_is_told_by_every_run(run, inspected, old_tones):
    assert (run().code, inspected()) == (0, SOUNDS)
    soundfile.write(old_tones.with_name("dev03.wav"), np.zeros((8000, 2), "float32"), 16000)
    for _ in range(2):
        refused = run("--seeds", 1)
        assert (refused.code, inspected()) == (3, 1)
        assert "stereo: dev03" in refused.err


def test_a_change_that_no_fact_of_the_file_tells_is_found_when_the_sound_is_used(
    run, inspected, old_tones, monkeypatch
):
    """As on a disk whose times and inodes say nothing: the sound itself is compared before its features are kept."""
    monkeypatch.setattr(recordings.KnownRecordings, "_stamp", lambda *_: b"the same for ever")
    assert (run(command="plan").code, inspected()) == (0, SOUNDS)
    changed = old_tones.with_name("test02.wav")
    samples, rate = soundfile.read(changed, dtype="int16")
    soundfile.write(changed, samples[::-1].copy(), rate)
    os.utime(changed, ns=(LONG_AGO, LONG_AGO))
    refused = run()
    assert (refused.code, inspected()) == (3, 0)
    assert f"test02: the sound changed since it was checked: {changed}" in refused.err
    assert "--reread" in refused.err
    assert (run("--reread").code, inspected()) == (0, SOUNDS)
    assert (run("--seeds", 1).code, inspected()) == (0, 0)


def test_a_damaged_memory_is_told_and_costs_no_more_than_time(run, inspected, tmp_path):
    home = tmp_path / "home"
    first = run("--home", home)
    (home / "recordings.sqlite").write_text("these are no rows\n" * 500)
    second = run("--home", home)
    assert (second.code, second.json, inspected()) == (0, first.json, 2 * SOUNDS)
    assert f"warning: {home / 'recordings.sqlite'} was damaged (file is not a database)" in second.err
    third = run("--home", home)
    assert (third.code, third.err, inspected()) == (0, "", 0)
