"""Speaker identification: VoxCeleb1's tree."""

import hashlib
from dataclasses import replace

import pytest

from superbench.contracts import Crop
from superbench.errors import DataError
from superbench.plugin import NoOptions
from superbench_tasks.sid import TASK, complete, labels, read

SPLIT = "1 id10001/aa/00001.wav\n3 id10001/bb/00001.wav\n2 id10001/cc/00001.wav\n1 id10002/dd/00001.wav\n"
WAVS = {
    "VoxCeleb1/dev/wav/id10001/aa/00001.wav": 0.5,
    "VoxCeleb1/dev/wav/id10001/bb/00001.wav": 0.5,
    "VoxCeleb1/wav/id10001/cc/00001.wav": 0.5,
    "VoxCeleb1/test/wav/id10002/dd/00001.wav": 0.5,
    "VoxCeleb1/test/wav/id10009/zz/00001.wav": 0.5,
}


def refusal(root):
    with pytest.raises(DataError) as caught:
        read(root, NoOptions())
    return caught.value


@pytest.mark.parametrize("name", ["iden_split.txt", "veri_test_class.txt"])
def test_the_official_tree(tree, checked, name):
    root = tree({**WAVS, f"VoxCeleb1/{name}": SPLIT})
    rows = read(root, NoOptions())
    assert [(r.id, r.split, r.speaker, r.labels["video"]) for r in rows] == [
        ("id10001/aa/00001", "train", "id10001", "aa"),
        ("id10001/bb/00001", "test", "id10001", "bb"),
        ("id10001/cc/00001", "dev", "id10001", "cc"),
        ("id10002/dd/00001", "train", "id10002", "dd"),
    ]
    corpus, speakers, problems = checked(TASK, complete(rows, NoOptions()), roots=[root / "VoxCeleb1"], official=True)
    assert problems == ()
    assert speakers.size == 1251
    assert (speakers.names[0], speakers.names[1], speakers.names[-1]) == ("id10001", "id10002", "id11251")
    assert speakers.encode("id10313") == (312,)  # the number in the id, less 10,001
    assert [u.reference for u in corpus.utterances][-1] == "id10002"
    assert {u.bank for u in corpus.utterances} == {""}  # none is longer than a crop


@pytest.mark.parametrize("stranger", ["id10000", "id11252", "id1", "carl"])
def test_who_is_none_of_the_1251_is_an_error_on_the_official_tree(tree, checked, stranger):
    root = tree(
        {
            f"VoxCeleb1/wav/{stranger}/aa/00001.wav": 0.5,
            **WAVS,
            "VoxCeleb1/iden_split.txt": SPLIT + f"1 {stranger}/aa/00001.wav\n",
        }
    )
    rows = complete(read(root, NoOptions()), NoOptions())
    _, _, problems = checked(TASK, rows, roots=[root / "VoxCeleb1"], official=True)
    (problem,) = problems
    assert (problem.kind, problem.severity) == ("label", "error")
    assert f"'{stranger}' is not in the vocabulary of sid: it has 1251 names" in problem.what


def test_a_corpus_of_ones_own_has_the_speakers_of_train():
    assert labels(["b", "a", "b"], False).names == ("a", "b")


def test_long_recordings_of_train_are_banks_of_four_crops_of_eight_seconds(tree, checked):
    lengths = {"dev/wav/id10001/aa": 8.5, "dev/wav/id10001/bb": 9.0, "wav/id10001/cc": 9.0, "test/wav/id10002/dd": 8.0}
    wavs = {f"VoxCeleb1/{folder}/00001.wav": seconds for folder, seconds in lengths.items()}
    root = tree({**wavs, "VoxCeleb1/iden_split.txt": SPLIT})
    rows = complete(read(root, NoOptions()), NoOptions())
    assert {r.id[:10]: r.crop for r in rows} == {
        "id10001/aa": Crop(seconds=8.0, bank=4),
        "id10001/bb": None,  # test
        "id10001/cc": None,  # dev
        "id10002/dd": Crop(seconds=8.0, bank=4),
    }
    corpus, _, problems = checked(TASK, rows, roots=[root / "VoxCeleb1"], official=True)
    assert problems == ()
    long = "id10001/aa/00001"
    hashes = [int(hashlib.sha256(f"{long}#{k}".encode()).hexdigest()[:16], 16) for k in range(4)]
    assert [(u.id, u.bank, u.split, u.start, u.samples) for u in corpus.utterances] == [
        *((f"{long}#00{k}", long, "train", hashes[k] % 8_001, 128_000) for k in range(4)),
        ("id10001/bb/00001", "", "test", 0, 144_000),
        ("id10001/cc/00001", "", "dev", 0, 144_000),
        ("id10002/dd/00001", "", "train", 0, 128_000),
    ]
    assert {u.gain_db for u in corpus.utterances} == {0.0}


def test_a_cross_validation_tests_every_recording_whole(tree):
    root = tree({**WAVS, "VoxCeleb1/iden_split.txt": SPLIT})
    folded = [replace(row, split="", fold=str(k)) for k, row in enumerate(read(root, NoOptions()))]
    assert complete(folded, NoOptions()) == folded


def test_two_lists_must_agree(tree):
    files = {**WAVS, "VoxCeleb1/iden_split.txt": SPLIT}
    assert len(read(tree({**files, "VoxCeleb1/veri_test_class.txt": SPLIT.replace("\n", "\r\n")}), NoOptions())) == 4
    error = refusal(tree({**files, "VoxCeleb1/veri_test_class.txt": SPLIT.replace("3 ", "1 ")}))
    assert "not the same list" in error.message


def test_everything_wrong_is_said(tree):
    bad = SPLIT + "4 id10001/aa/00001.wav\n1 id10001/aa/00001.wav\n1 id10001/nn/00001.wav\n1 id10002/dd/00001.wav \nx\n"
    root = tree({**WAVS, "VoxCeleb1/wav/id10001/aa/00001.wav": 0.5, "VoxCeleb1/iden_split.txt": bad})
    message = refusal(root).message
    for part in (
        ":1: id10001/aa/00001.wav must be there once",
        ":5: not a split and a file",
        ":7: id10001/nn/00001.wav must be there once, and is not under dev/wav, test/wav, wav",
        ":8: id10002/dd/00001.wav is listed at",
        ":9: not a split and a file: 'x'",
    ):
        assert part in message


def test_without_a_list(tree):
    assert "iden_split.txt nor veri_test_class.txt" in refusal(tree(WAVS)).message
