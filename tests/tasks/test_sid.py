"""Speaker identification: VoxCeleb1's tree."""

import pytest

from superbench.errors import DataError
from superbench.plugin import NoOptions
from superbench_tasks.sid import TASK, read

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
    corpus, labels, problems = checked(TASK, rows, roots=[root / "VoxCeleb1"], official=True)
    assert problems == ()
    assert labels.names == ("id10001", "id10002")
    assert [u.reference for u in corpus.utterances][-1] == "id10002"


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
