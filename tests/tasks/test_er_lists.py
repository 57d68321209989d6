"""`--meta DIR`: s3prl's own lists of IEMOCAP's turns, in a machine's order, and the very split drawn from them."""

from __future__ import annotations

import json
import random

import pytest
import torch

from superbench.corpus import partitions
from superbench.errors import DataError
from superbench_tasks.er import TASK, Options, read

EMOTIONS = ("neu", "hap", "ang", "sad", "exc", "fru", "neu")
TURNS = [  # of every session: emotion and speaker; 6 of the 7 are used
    (emotion, "FM"[i % 2], f"{i:03d}") for i, emotion in enumerate(EMOTIONS)
]


@pytest.fixture
def root(tree):
    """IEMOCAP with 6 turns of the four classes in each session."""
    made = {}
    for session in "12345":
        dialog = f"Ses0{session}F_impro01"
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for emotion, sex, number in TURNS:
            lines.append(f"[1.0000 - 2.0000]\t{dialog}_{sex}{number}\t{emotion}\t[2.5000, 2.5000, 2.5000]")
            made[f"IEMOCAP/Session{session}/sentences/wav/{dialog}/{dialog}_{sex}{number}.wav"] = 0.03
        made[f"IEMOCAP/Session{session}/dialog/EmoEvaluation/{dialog}.txt"] = "\n".join(lines)
    return tree(made)


def entries(session):
    """One object per turn, as IEMOCAP_preprocess.py writes it."""
    dialog = f"Ses0{session}F_impro01"
    return [
        {
            "path": f"Session{session}/sentences/wav/{dialog}/{dialog}_{sex}{number}.wav",
            "label": {"exc": "hap"}.get(emotion, emotion),
            "speaker": f"Ses0{session}{sex}",
        }
        for emotion, sex, number in TURNS
        if emotion != "fru"
    ]


def write_lists(folder):
    """All ten lists, each in an order of its own; returns the turns of every training list, in order."""
    shuffled = random.Random(7)
    orders = {}
    for session in "12345":
        inside = entries(session)
        outside = [entry for other in "12345" if other != session for entry in entries(other)]
        for name, listed in (("test", inside), ("train", outside)):
            shuffled.shuffle(listed)
            content = {"labels": {"neu": 0, "hap": 1, "ang": 2, "sad": 3}, "meta_data": listed}
            home = folder / f"Session{session}"
            home.mkdir(parents=True, exist_ok=True)
            (home / f"{name}_meta_data.json").write_text(json.dumps(content))
        orders[session] = [entry["path"].rpartition("/")[2].removesuffix(".wav") for entry in outside]
    return orders


def rewrite(file, change):
    content = json.loads(file.read_text())
    change(content["meta_data"])
    file.write_text(json.dumps(content))


def divided(checked, root, options):
    rows = read(root, options)
    corpus, _, problems = checked(TASK, rows, roots=[root / "IEMOCAP"], official=True)
    assert [p for p in problems if p.severity == "error"] == []
    ids = [u.id for u in corpus.utterances]
    return corpus, {
        p.name: tuple({ids[i] for i in part} for part in (p.train, p.dev, p.test)) for p in partitions(TASK, corpus)
    }


def test_the_split_is_random_splits_on_the_order_of_the_lists(root, checked, tmp_path):
    orders = write_lists(tmp_path / "meta")
    corpus, found = divided(checked, root, Options(meta=str(tmp_path / "meta")))
    assert len(corpus.utterances) == 30
    for session, order in orders.items():
        assert order != sorted(order)
        torch.manual_seed(0)
        train, dev = torch.utils.data.random_split(order, [19, 5])  # int(0.8 * 24), and the rest
        test = {u.id for u in corpus.utterances if u.fold == session}
        assert found[f"fold{session}"] == (set(train), set(dev), test)
    _, by_id = divided(checked, root, Options())
    assert by_id != found
    assert [parts[2] for parts in by_id.values()] == [parts[2] for parts in found.values()]


def test_the_order_of_the_lists_is_all_they_change(root, checked, tmp_path):
    write_lists(tmp_path / "meta")
    with_lists, _ = divided(checked, root, Options(meta=str(tmp_path / "meta")))
    without, _ = divided(checked, root, Options())
    assert with_lists.sha == without.sha
    assert [u.reference for u in with_lists.utterances] == [u.reference for u in without.utterances]


@pytest.mark.parametrize("part", ["train", "test"])
def test_lists_that_are_not_of_this_tree_are_refused(root, tmp_path, part):
    folder = tmp_path / "meta"
    options = Options(meta=str(folder))
    file = folder / "Session2" / f"{part}_meta_data.json"

    def refused(words):
        with pytest.raises(DataError) as caught:
            read(root, options)
        assert words in caught.value.message
        assert str(file) in caught.value.message
        assert caught.value.hint
        write_lists(folder)

    write_lists(folder)
    file.unlink()
    refused("cannot be read")
    file.write_text('{"meta_data": [')
    refused("cannot be read")
    file.write_bytes(b'{"meta_data": "\xff"}')
    refused("cannot be read")
    file.write_text("[1, 2]")
    refused("is no list of turns")
    file.write_text('{"labels": {}}')
    refused("is no list of turns")
    file.write_text('{"meta_data": [{"path": "x.wav"}]}')
    refused("is no list of turns")
    rewrite(file, lambda listed: listed.pop())
    refused("1 turns are not those of the tree")
    rewrite(file, lambda listed: listed.append({**listed[0], "path": "Session2/sentences/wav/d/Ses02F_x_F000.wav"}))
    refused("1 turns are not those of the tree")
    rewrite(file, lambda listed: listed[0].update(label="ang" if listed[0]["label"] != "ang" else "sad"))
    refused("1 turns are not those of the tree, or not so labelled")
    rewrite(file, lambda listed: listed.append(listed[3]))
    refused("lists a turn twice")
    assert len(read(root, options)) == 30  # and the whole ones are not


def test_a_folder_that_is_not_there(root, tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read(root, Options(meta=str(tmp_path / "nowhere")))
