"""Emotion recognition: IEMOCAP's tree and folds."""

import pytest
import torch

from superbench.corpus import partitions
from superbench.errors import DataError
from superbench_tasks.er import TASK, Options, read

EMOTIONS = ("neu", "hap", "ang", "sad", "exc", "fru", "xxx", "neu")


def files(sessions="12345"):
    made = {}
    for k in sessions:
        dialog = f"Ses0{k}F_script01_1b"
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for i, emotion in enumerate(EMOTIONS):
            turn = f"{dialog}_{'FM'[i % 2]}{i:03d}"
            lines += [f"[{i}.0000 - {i}.5000]\t{turn}\t{emotion}\t[2.5000, 2.5000, 2.5000]", "C-E2:\tNeutral;\t()", ""]
            made[f"IEMOCAP/Session{k}/sentences/wav/{dialog}/{turn}.wav"] = 0.1
        made[f"IEMOCAP/Session{k}/dialog/EmoEvaluation/{dialog}.txt"] = "\n".join(lines)
        made[f"IEMOCAP/Session{k}/dialog/EmoEvaluation/._{dialog}.txt"] = "left by a Mac"
    return made


def test_the_official_tree(tree, checked):
    root = tree(files())
    rows = read(root, Options())
    assert [(r.id, r.fold, r.split, r.speaker, r.labels["label"]) for r in rows[:6]] == [
        ("Ses01F_script01_1b_F000", "1", "", "Ses01F", "neu"),
        ("Ses01F_script01_1b_M001", "1", "", "Ses01M", "hap"),
        ("Ses01F_script01_1b_F002", "1", "", "Ses01F", "ang"),
        ("Ses01F_script01_1b_M003", "1", "", "Ses01M", "sad"),
        ("Ses01F_script01_1b_F004", "1", "", "Ses01F", "hap"),
        ("Ses01F_script01_1b_M007", "1", "", "Ses01M", "neu"),
    ]
    assert len(rows) == 30
    assert rows[4].labels["emotion"] == "exc"
    corpus, labels, problems = checked(TASK, rows, roots=[root / "IEMOCAP"], official=True)
    assert problems == ()
    assert labels.names == ("neu", "hap", "ang", "sad")  # class 0 to 3 of s3prl's lists
    found = partitions(TASK, corpus)
    assert [p.name for p in found] == [f"fold{k}" for k in range(1, 6)]
    for k, part in enumerate(found, start=1):
        assert {corpus.utterances[i].fold for i in part.test} == {str(k)}
        assert (len(part.train), len(part.dev), len(part.test)) == (19, 5, 6)
        assert sorted((*part.train, *part.dev, *part.test)) == list(range(30))
        others = [i for i, u in enumerate(corpus.utterances) if u.fold != str(k)]
        torch.manual_seed(0)
        train, dev = torch.utils.data.random_split(others, [int(0.8 * 24), 24 - int(0.8 * 24)])
        assert (sorted(train), sorted(dev)) == (list(part.train), list(part.dev))


def test_drawing_dev_leaves_torchs_own_state_alone(tree, checked):
    root = tree(files())
    corpus, _, _ = checked(TASK, read(root, Options()), roots=[root], official=True)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    partitions(TASK, corpus)
    assert torch.rand(1) == expected


def test_a_corpus_of_ones_own_goes_by_its_folds(tree, checked):
    root = tree(files())
    corpus, labels, _ = checked(TASK, read(root, Options())[::2], roots=[root], official=False)
    assert labels.names == ("ang", "hap", "neu")
    for part in partitions(TASK, corpus):
        assert len({corpus.utterances[i].fold for i in part.dev}) == 1


def test_everything_wrong_is_said(tree):
    made = files()
    del made["IEMOCAP/Session2/sentences/wav/Ses02F_script01_1b/Ses02F_script01_1b_F000.wav"]
    made["IEMOCAP/Session3/dialog/EmoEvaluation/extra.txt"] = (
        "[1.0 - 2.0]\tSes03F_script01_1b_F000\tneu\t[1, 1, 1]\n[1.0"
    )
    with pytest.raises(DataError) as caught:
        read(tree(made), Options())
    message = caught.value.message
    assert "3 problems" in message
    assert "Ses02F_script01_1b.txt:3: there is no" in message
    assert "Ses03F_script01_1b_F000 is listed at" in message
    assert "extra.txt:2: not a turn: '[1.0'" in message


def test_a_missing_session(tree):
    with pytest.raises(DataError, match="no folder 'Session4'"):
        read(tree(files("1235")), Options())
