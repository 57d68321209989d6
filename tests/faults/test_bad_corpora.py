"""Bad sound and bad manifests, through the command line: exit code 3, and everything that is wrong is named."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import soundfile

KS = "run -q -u fbank_no_cmvn -t ks --data {at}/m.csv --steps 2 --lr 1e-2"
ASR = KS.replace("-t ks", "-t asr --head blstm:projector=4,hidden=4")
NOISE = np.random.default_rng(7).uniform(-0.5, 0.5, 6000).astype("float32")


def cut(bench, name, bytes_left):
    content = bench.path(name).read_bytes()
    bench.write(name, content[:bytes_left])


def flac(bench, name):
    sound, rate = soundfile.read(bench.path("train00.wav"), dtype="int16")
    soundfile.write(bench.path(name), sound, rate)


def wav_of_seconds(bench, name, seconds):
    """A sparse file: an hour of silence that takes no room."""
    bench.sound(name, np.zeros(100, "float32"), 16000, "PCM_U8")
    header = bytearray(bench.path(name).read_bytes()[:44])
    size = seconds * 16000
    header[4:8], header[40:44] = (36 + size).to_bytes(4, "little"), size.to_bytes(4, "little")
    bench.write(name, bytes(header))
    os.truncate(bench.path(name), 44 + size)


def bad_flac(bench):
    flac(bench, "bad.flac")
    cut(bench, "bad.flac", 2000)
    bench.change(0, path="bad.flac")


def outside_by_link(bench):
    shutil.copy(bench.path("train00.wav"), bench.home.parent / "outside.wav")
    bench.path("train00.wav").unlink()
    bench.path("train00.wav").symlink_to(bench.home.parent / "outside.wav")


def pipe(bench):
    bench.path("train00.wav").unlink()
    os.mkfifo(bench.path("train00.wav"))


def folder_for_a_file(bench):
    bench.path("sub").mkdir()
    bench.change(0, path="sub")


def same_sound_in_test(bench):
    shutil.copy(bench.path("train00.wav"), bench.path("test00.wav"))


def copied_with_another_label(bench):
    shutil.copy(bench.path("train00.wav"), bench.path("train01.wav"))


def two_folds(bench):
    rows = bench.path("folds.csv").read_text().splitlines()
    bench.write("m.csv", "\n".join([rows[0], *(r for r in rows[1:] if ",3," not in r)]) + "\n")


def nine_wrong_at_once(bench):
    bench.write("train00.wav", b"")
    bench.write("train01.wav", "no sound\n")
    cut(bench, "train02.wav", 1000)
    bench.sound("train03.wav", np.stack([NOISE, NOISE], 1))
    bench.sound("train04.wav", NOISE, 8000)
    bench.sound("train05.wav", NOISE[:200])
    bench.sound("train06.wav", np.where(NOISE > 0.49, np.nan, NOISE), subtype="FLOAT")
    bench.path("train07.wav").unlink()
    bench.change(20, label="gong")


# name: how the good corpus is spoilt; the command; the words the message must hold
SPOILT = {
    "stereo": (lambda b: b.sound("train00.wav", np.stack([NOISE, NOISE], 1)), KS, ("train00", "2 channels")),
    "another rate": (lambda b: b.sound("dev00.wav", NOISE, 8000), KS, ("dev00", "8000 Hz", "--resample")),
    "WAV cut off": (lambda b: cut(b, "test00.wav", 4000), KS, ("test00", "truncated", "4000")),
    "FLAC cut off": (bad_flac, KS, ("bad", "bad.flac")),
    "text called .wav": (lambda b: b.write("train00.wav", "no sound\n"), KS, ("train00", "unreadable")),
    "no bytes": (lambda b: b.write("train00.wav", b""), KS, ("train00", "no bytes")),
    "no sample": (lambda b: b.sound("train00.wav", NOISE[:0]), KS, ("train00", "no sample")),
    "one sample": (lambda b: b.sound("test00.wav", NOISE[:1]), KS, ("test00", "1 samples", "25 ms")),
    "shorter than one frame": (lambda b: b.sound("test00.wav", NOISE[:399]), KS, ("test00", "399 samples")),
    "NaN samples": (lambda b: b.sound("dev00.wav", NOISE * np.nan, subtype="FLOAT"), KS, ("dev00", "NaN or infinite")),
    "infinite samples": (lambda b: b.sound("dev00.wav", NOISE * np.inf, subtype="FLOAT"), KS, ("dev00", "infinite")),
    "more than an hour": (lambda b: wav_of_seconds(b, "train00.wav", 3601), KS, ("train00", "too-long", "3600 s")),
    "no such file": (lambda b: b.path("test01.wav").unlink(), KS, ("test01", "there is no file")),
    "folder in place of a file": (
        folder_for_a_file,
        KS,
        ("m.csv:2", "folder"),
    ),
    "named pipe": (pipe, KS, ("train00", "pipe")),
    "path out of the root": (lambda b: b.change(0, path="../../etc/passwd"), KS, ("m.csv:2", "../../etc/passwd")),
    "absolute path": (lambda b: b.change(0, path="/etc/passwd"), KS, ("m.csv:2", "/etc/passwd")),
    "link out of the root": (outside_by_link, KS, ("m.csv:2", "symbolic link")),
    "label only in test": (lambda b: b.change(20, label="gong"), KS, ("test02", "'gong'", "it has high, hiss, low")),
    "label only in dev": (lambda b: b.change(12, label="gong"), KS, ("dev00", "'gong'")),
    "character outside the alphabet": (lambda b: b.change(0, text="CAFÉ 3"), ASR, ("train00", "'É'", "'3'")),
    "empty transcript": (lambda b: b.change(23, text=""), ASR, ("m.csv:25", "'text' is empty", "--label-column")),
    "empty label": (lambda b: b.change(23, label=" "), KS, ("m.csv:25", "'label' is empty")),
    "split that is none": (lambda b: b.change(0, split="training"), KS, ("training", "did you mean 'train'")),
    "no dev split": (lambda b: [b.change(i, split="test") for i in range(12, 18)], KS, ("no utterance is in 'dev'",)),
    "same sound in train and test": (same_sound_in_test, KS, ("duplicate-audio", "train00", "test00")),
    "same sound, two labels": (copied_with_another_label, KS, ("duplicate-audio", "'high'", "'low'")),
    "speaker in train and test": (lambda b: b.change(18, speaker="train-0"), KS, ("speaker train-0", "'test'")),
    "two folds": (two_folds, KS.replace("-t ks", "-t er"), ("2 folds", "3 are needed")),
    "one line short of a cell": (
        lambda b: b.write("m.csv", b.manifest.read_text() + "x.wav,train\n"),
        KS,
        ("m.csv:26", "2 cells under 6 columns"),
    ),
    "no label column": (lambda b: b.write("m.csv", "path,split,lable\na,train,x\n"), KS, ("'label'", "'lable'")),
    "UTF-16": (lambda b: b.write("m.csv", b.manifest.read_text().encode("utf-16")), KS, ("not UTF-8",)),
    "NUL": (lambda b: b.write("m.csv", b.manifest.read_bytes() + b"\0"), KS, ("m.csv:26", "NUL")),
    "empty manifest": (lambda b: b.write("m.csv", ""), KS, ("no header line",)),
    "header alone": (lambda b: b.write("m.csv", "path,split,label\n"), KS, ("no utterance is in 'train'",)),
    "no manifest": (lambda b: b.manifest.unlink(), KS, ("m.csv", "cannot be read", "--data")),
    "open quote": (lambda b: b.write("m.csv", 'path,split,label\n"a,train,x\n'), KS, ("m.csv:2", "quotes")),
    "word without pronunciation": (
        lambda b: b.write("lexicon.txt", "GO G OW1\nUP AH1 P\n"),
        KS.replace("-t ks", "-t pr --lexicon {at}/lexicon.txt"),
        ("STOP", "lexicon"),
    ),
    "no lexicon there": (
        lambda b: None,
        KS.replace("-t ks", "-t pr --lexicon {at}/lexicon.txt"),
        ("lexicon.txt",),
    ),
    "root without the official folders": (
        lambda b: None,
        "run -q -u fbank_no_cmvn -t ks --corpus {at}",
        ("no folder speech_commands_v0.01", "PARENT"),
    ),
    "everything at once": (
        nine_wrong_at_once,
        KS,
        ("9 errors", *(f"train0{i}" for i in range(8)), "'gong'", "corpus check"),
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_run_refuses(case, bench, refused):
    spoil, command, words = SPOILT[case]
    spoil(bench)
    refused(command, 3, words)


@pytest.mark.parametrize(("one", "other"), [("one", "one"), ("one", "ONE"), ("caf\u00e9", "cafe\u0301")])
def test_ids_that_are_the_same(one, other, bench, refused):
    lines = bench.manifest.read_text().splitlines()
    ids = ["id", one, other, *(f"id{i}" for i in range(len(lines) - 3))]
    bench.write("m.csv", "".join(f"{i},{line}\n" for i, line in zip(ids, lines, strict=True)))
    refused(KS, 3, ("duplicate-id", "letter case aside", "'id' column"))


def test_sound_that_changes_while_the_run_goes_on(bench, refused):
    bench.upstream(
        "x = [w[: len",
        f"""import pathlib
                if len(waves[0]) not in (16000, 11213):
                    for sound in pathlib.Path({str(bench.folder)!r}).glob("*.wav"):
                        sound.write_bytes(sound.read_bytes()[:-2] + b"zz")
                x = [w[: len""",
    )
    refused(KS.replace("-u fbank_no_cmvn", "-p {at}/mine.py -u mine"), 3, ("changed since it was checked",))


def test_corpus_check_says_the_same_and_lists_it_as_json(bench, superbench):
    nine_wrong_at_once(bench)
    arguments = ("corpus", "check", "-t", "ks", "--data", bench.manifest)
    ended = superbench(*arguments)
    assert (ended.code, ended.out.count("error: ")) == (3, 9)
    listed = superbench(*arguments, "--json")
    assert listed.code == 3
    assert sorted({p["kind"] for p in listed.json["problems"] if p["severity"] == "error"}) == sorted(
        ["empty", "unreadable", "truncated", "stereo", "rate", "too-short", "not-finite", "missing", "label"]
    )


def test_constant_and_clipped_sound_is_scored_with_a_warning_stored(bench, superbench):
    bench.sound("test00.wav", np.zeros(6000, "float32"))
    bench.sound("test01.wav", np.clip(NOISE * 9, -1, 1))
    ended = superbench(*KS.format(at=bench.folder).split(), "--json")
    assert ended.code == 0, ended.err
    (result,) = ended.json
    assert [(w["kind"], w["where"][:6]) for w in result["data"]["warnings"]] == [
        ("constant", "test00"),
        ("clipped", "test01"),
    ]
    assert result["scores"][0]["denominator"] == 6


def test_another_rate_is_converted_where_that_is_allowed_and_the_row_says_so(bench, superbench):
    bench.sound("dev00.wav", NOISE, 8000)
    ended = superbench(*KS.format(at=bench.folder).split(), "--resample", "--json")
    assert ended.code == 0, ended.err
    (result,) = ended.json
    assert "HQ 8000->16000" in result["data"]["resampler"]
    assert [d for d in result["departures"] if d.startswith("resampled: soxr")]


def test_transcripts_longer_than_their_sound_are_counted(bench, superbench):
    bench.change(0, text="GO " * 40)
    ended = superbench(*ASR.format(at=bench.folder).split(), "--json")
    assert ended.code == 0, ended.err
    assert ended.json[0]["warnings"] == ["1 of 12 training utterances have fewer frames than CTC needs: no loss"]


def test_names_with_spaces_quotes_marks_and_other_scripts(bench, superbench):
    names = ["a b.wav", "o'brien.wav", "«é».wav", "🎵.wav", "עברית.wav", "line,comma.wav", '"q".wav', "-p.wav"]
    for number, name in enumerate(names):
        bench.path(f"train{number:02d}.wav").rename(bench.path(name))
        bench.change(number, path=name)
    text = "\ufeff" + bench.manifest.read_text().replace("\n", "\r\n")
    bench.write("m.csv", text)
    ended = superbench(*KS.format(at=bench.folder).split(), "--score-train", "--json")
    assert ended.code == 0, ended.err
    assert ended.json[0]["train_scores"][0]["denominator"] == 12
