"""Keyword spotting: Speech Commands' two folders."""

import hashlib

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from superbench import audio
from superbench.contracts import Crop
from superbench.errors import DataError
from superbench.plugin import NoOptions
from superbench_tasks.ks import CLASSES, PROTOCOL, TASK, labels, read, split_of

TRAIN, DEV, TEST = "ab246696", "50ed8a7b", "91223b83"  # of the publishers' own lists
A, B = "speech_commands_v0.01", "speech_commands_test_set_v0.01"


def files():
    made = {
        f"{A}/{word}/{speaker}_nohash_0.wav": 0.1 for word in (*PROTOCOL.words, "bed") for speaker in (TRAIN, DEV, TEST)
    }
    made |= {
        f"{A}/_background_noise_/hum.wav": 21.5,
        f"{A}/yes/._x_nohash_0.wav": "left by a Mac",
        f"{A}/README.md": "",
    }
    made |= {f"{B}/{word}/{TEST}_nohash_0.wav": 0.1 for word in PROTOCOL.words}
    return made | {f"{B}/_unknown_/bed_{TEST}_nohash_0.wav": 0.1, f"{B}/_silence_/hum_0.wav": 1.0}


def test_the_publishers_rule():
    assert [split_of(s) for s in (TRAIN, DEV, TEST)] == ["train", "dev", "test"]
    # Further speakers of real files: of the validation list, and of the testing list.
    assert [split_of(s) for s in ("50ed8a7b", "826268f8", "ab00c4b2")] == ["dev"] * 3
    assert [split_of(s) for s in ("91223b83", "9a69672b", "a2473d62")] == ["test"] * 3


@given(st.text("0123456789abcdef", min_size=8, max_size=8))
def test_the_rule_is_that_of_the_publishers_to_the_letter(speaker):
    percent = (int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % 2**27) * 100 / (2**27 - 1)
    assert split_of(speaker) == ("dev" if percent < 10 else "test" if percent < 20 else "train")


def test_the_official_tree(tree, checked):
    root = tree(files())
    rows = read(root, NoOptions())
    found = {r.id: (r.split, r.labels["label"], r.speaker, r.labels["word"]) for r in rows}
    assert len(found) == len(rows) == 22 + 2 + 12
    assert found[f"{A}/yes/{TRAIN}_nohash_0"] == ("train", "yes", TRAIN, "yes")
    assert found[f"{A}/bed/{DEV}_nohash_0"] == ("dev", "_unknown_", DEV, "bed")
    assert f"{A}/yes/{TEST}_nohash_0" not in found
    assert found[f"{B}/yes/{TEST}_nohash_0"] == ("test", "yes", TEST, "yes")
    assert found[f"{B}/_unknown_/bed_{TEST}_nohash_0"] == ("test", "_unknown_", TEST, "bed")
    assert found[f"{B}/_silence_/hum_0"] == ("test", "_silence_", "", "")
    corpus, vocabulary, problems = checked(TASK, rows, roots=[root / A, root / B], official=True)
    (problem,) = problems
    assert (problem.kind, problem.severity) == ("no-speaker", "warning")
    assert problem.what.startswith("3 rows")  # hum, in train and in dev, and the silence of test
    assert vocabulary.names == CLASSES == (*PROTOCOL.words, "_unknown_", "_silence_")
    assert len(corpus.items(range(len(corpus.utterances)))) == 36
    assert len(corpus.utterances) == 34 + 2 * 128


def test_background_noise_is_a_bank_of_seconds_in_train_and_another_in_dev(tree, checked):
    root = tree(files())
    noise = {r.id: r for r in read(root, NoOptions()) if "_background_noise_" in r.id}
    assert {id_: r.split for id_, r in noise.items()} == {
        f"{A}/_background_noise_/hum:train": "train",
        f"{A}/_background_noise_/hum:dev": "dev",
    }
    for row in noise.values():
        assert (row.crop, row.start, row.end, row.speaker) == (Crop(seconds=1.0, bank=128), None, None, "")
        assert row.labels["label"] == "_silence_"
    corpus, _, _ = checked(TASK, read(root, NoOptions()), roots=[root], official=True)
    starts = {}
    for split in ("train", "dev"):
        id_ = f"{A}/_background_noise_/hum:{split}"
        crops = [u for u in corpus.utterances if u.bank == id_]
        assert [u.id for u in crops] == [f"{id_}#{k:03d}" for k in range(128)]
        assert {(u.split, u.reference, u.samples, u.stop - u.start) for u in crops} == {
            (split, "_silence_", 16000, 16000)
        }
        # 21.5 s: a crop begins at one of 328,001 samples, by 64 bits of a hash.
        hashes = [int(hashlib.sha256(f"{id_}#{k}".encode()).hexdigest()[:16], 16) for k in range(128)]
        starts[split] = [u.start for u in crops]
        assert starts[split] == [h % 328_001 for h in hashes]
    assert not set(starts["train"]) & set(starts["dev"])
    assert {u.bank for u in corpus.utterances} == {"", *noise}
    assert {u.split for u in corpus.utterances if u.bank} == {"train", "dev"}


def test_all_sound_is_turned_down_by_three_decibels(tree, checked):
    root = tree(files())
    corpus, _, _ = checked(TASK, read(root, NoOptions()), roots=[root], official=True)
    assert {u.gain_db for u in corpus.utterances} == {-3.0}
    word = next(u for u in corpus.utterances if u.id == f"{B}/yes/{TEST}_nohash_0")
    sound = soundfile.read(word.path, dtype="float32")[0]
    assert np.array_equal(audio.read(word), (sound.astype("float64") * 10 ** (-3 / 20)).astype("float32"))


def test_everything_wrong_is_said(tree):
    made = files() | {
        f"{A}/forward/{TRAIN}_nohash_0.wav": 0.1,  # of version 0.02
        f"{A}/yes/nobody.wav": 0.1,
        f"{B}/cat/{TEST}_nohash_0.wav": 0.1,
    }
    with pytest.raises(DataError) as caught:
        read(tree(made), NoOptions())
    message = caught.value.message
    assert "3 problems" in message
    for part in ("forward: Speech Commands", "nobody.wav: the name", "cat: the test set"):
        assert part in message


def test_background_noise_that_is_no_sound_is_an_error(tree, checked):
    root = tree(files() | {f"{A}/_background_noise_/broken.wav": "no sound"})
    _, _, problems = checked(TASK, read(root, NoOptions()), roots=[root], official=True)
    errors = [p for p in problems if p.severity == "error"]
    assert [p.kind for p in errors] == ["unreadable"] * 2  # in train, and in dev
    assert all("broken.wav" in p.where for p in errors)
    (root / A / "_background_noise_/broken.wav").unlink()
    (root / A / "_background_noise_/hum.wav").unlink()
    with pytest.raises(DataError, match="_background_noise_ has no recording"):
        read(root, NoOptions())


@pytest.mark.parametrize("missing", [B, f"{A}/yes", f"{A}/_background_noise_", f"{B}/_silence_"])
def test_a_missing_folder(tree, missing):
    root = tree(files())
    (root / missing).rename(root / "elsewhere")
    with pytest.raises(DataError, match=missing.rpartition("/")[2]):
        read(root, NoOptions())


def test_classes_of_ones_own():
    assert labels(["nein", "ja", "ja"], False).names == ("ja", "nein")
    assert labels(["nein"], True).size == 12
