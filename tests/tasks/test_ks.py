"""Keyword spotting: Speech Commands' two folders."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superbench.errors import DataError
from superbench.plugin import NoOptions
from superbench_tasks.ks import CLASSES, TASK, WORDS, labels, read, split_of

TRAIN, DEV, TEST = "ab246696", "50ed8a7b", "91223b83"  # of the publishers' own lists
A, B = "speech_commands_v0.01", "speech_commands_test_set_v0.01"


def files():
    made = {f"{A}/{word}/{speaker}_nohash_0.wav": 0.1 for word in (*WORDS, "bed") for speaker in (TRAIN, DEV, TEST)}
    made |= {
        f"{A}/_background_noise_/hum.wav": 21.5,
        f"{A}/yes/._x_nohash_0.wav": "left by a Mac",
        f"{A}/README.md": "",
    }
    made |= {f"{B}/{word}/{TEST}_nohash_0.wav": 0.1 for word in WORDS}
    return made | {f"{B}/_unknown_/bed_{TEST}_nohash_0.wav": 0.1, f"{B}/_silence_/hum_0.wav": 1.0}


def test_the_publishers_rule():
    assert [split_of(s) for s in (TRAIN, DEV, TEST)] == ["train", "dev", "test"]


@given(st.text("0123456789abcdef", min_size=8, max_size=8))
def test_the_rule_is_that_of_the_publishers_to_the_letter(speaker):
    percent = (int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % 2**27) * 100 / (2**27 - 1)
    assert split_of(speaker) == ("dev" if percent < 10 else "test" if percent < 20 else "train")


def test_the_official_tree(tree, checked):
    root = tree(files())
    rows = read(root, NoOptions())
    found = {r.id: (r.split, r.labels["label"], r.speaker, r.labels["word"]) for r in rows}
    assert len(found) == len(rows) == 22 + 21 + 12
    assert found[f"{A}/yes/{TRAIN}_nohash_0"] == ("train", "yes", TRAIN, "yes")
    assert found[f"{A}/bed/{DEV}_nohash_0"] == ("dev", "_unknown_", DEV, "bed")
    assert f"{A}/yes/{TEST}_nohash_0" not in found
    assert found[f"{B}/yes/{TEST}_nohash_0"] == ("test", "yes", TEST, "yes")
    assert found[f"{B}/_unknown_/bed_{TEST}_nohash_0"] == ("test", "_unknown_", TEST, "bed")
    assert found[f"{B}/_silence_/hum_0"] == ("test", "_silence_", "", "")
    corpus, vocabulary, problems = checked(TASK, rows, roots=[root / A, root / B], official=True)
    assert {p.kind for p in problems} == {"no-speaker"}
    assert vocabulary.names == CLASSES
    assert len(corpus.utterances) == 55


def test_background_noise_is_cut_into_seconds(tree, checked):
    root = tree(files())
    windows = [r for r in read(root, NoOptions()) if "_background_noise_" in r.id]
    assert [r.start for r in windows] == [float(i) for i in range(21)]
    assert all(r.end == r.start + 1.0 and r.labels["label"] == "_silence_" for r in windows)
    assert [r.start for r in windows if r.split == "dev"] == [9.0, 19.0]
    assert windows[7].id == f"{A}/_background_noise_/hum:007"
    corpus, _, _ = checked(TASK, read(root, NoOptions()), roots=[root], official=True)
    (seventh,) = [u for u in corpus.utterances if u.id == windows[7].id]
    assert (seventh.start, seventh.stop) == (7 * 16000, 8 * 16000)


def test_everything_wrong_is_said(tree):
    made = files() | {
        f"{A}/forward/{TRAIN}_nohash_0.wav": 0.1,  # of version 0.02
        f"{A}/yes/nobody.wav": 0.1,
        f"{B}/cat/{TEST}_nohash_0.wav": 0.1,
        f"{A}/_background_noise_/broken.wav": "no sound",
    }
    with pytest.raises(DataError) as caught:
        read(tree(made), NoOptions())
    message = caught.value.message
    assert "4 problems" in message
    for part in ("forward: Speech Commands", "nobody.wav: the name", "cat: the test set", "broken.wav: cannot be read"):
        assert part in message


@pytest.mark.parametrize("missing", [B, f"{A}/yes", f"{A}/_background_noise_", f"{B}/_silence_"])
def test_a_missing_folder(tree, missing):
    root = tree(files())
    (root / missing).rename(root / "elsewhere")
    with pytest.raises(DataError, match=missing.rpartition("/")[2]):
        read(root, NoOptions())


def test_classes_of_ones_own():
    assert labels(["nein", "ja", "ja"], False).names == ("ja", "nein")
    assert labels(["nein"], True).size == 12
