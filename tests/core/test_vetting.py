"""An official tree beside the official sizes: complete, partial, wrong, or nothing to hold it against."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from superbench.contracts import Corpus, PartSize, Utterance
from superbench.plugin import TaskProtocol
from superbench.vetting import vet

PROTOCOL = TaskProtocol(
    head="any",
    objective="cross_entropy",
    metrics=("accuracy",),
    steps=10,
    batch=4,
    accumulate=1,
    eval_every=2,
    clip=1.0,
    lr_grid=(0.1,),
    sizes=(
        PartSize(part="train", utterances=4, speakers=2, hours=4.0, classes=(("a", 3), ("b", 1))),
        PartSize(part="dev", utterances=2, speakers=1),
        PartSize(part="test", utterances=1),
    ),
)
HOUR = 3600 * 16_000  # samples


def utterance(id_, split, *, speaker="", reference="a", samples=HOUR, fold="", bank=""):
    return Utterance(
        id=id_,
        path=Path("/corpus") / id_,
        start=0,
        stop=samples,
        native_rate=16_000,
        samples=samples,
        rate=16_000,
        content=id_,
        split=split,
        fold=fold,
        speaker=speaker,
        labels={},
        reference=reference,
        bank=bank,
    )


WHOLE = (
    utterance("1", "train", speaker="x"),
    utterance("2", "train", speaker="x", reference="b"),
    utterance("3", "train", speaker="y"),
    utterance("4", "train", speaker="y"),
    utterance("5", "dev", speaker="z", samples=7),
    utterance("6", "dev", speaker="z", samples=7),
    utterance("7", "test", samples=7),
)


def vetted(utterances, protocol=PROTOCOL, official=True):
    return vet(Corpus(task="any", utterances=tuple(utterances), official=official), protocol)


def without(*ids):
    return [u for u in WHOLE if u.id not in ids]


def changed(id_, **facts):
    return [replace(u, **facts) if u.id == id_ else u for u in WHOLE]


def test_a_whole_corpus_is_complete():
    found = vetted(WHOLE)
    assert found.verdict == "complete"
    assert str(found) == "complete"
    assert [(f.part, f.utterances, f.speakers, f.differences) for f in found.findings] == [
        ("train", 4, 2, ()),
        ("dev", 2, 1, ()),
        ("test", 1, 0, ()),
    ]
    assert found.findings[0].hours == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("utterances", "verdict", "words"),
    [
        (without("1"), "partial", "train has 3 recordings, officially 4"),
        (without("7"), "partial", "test has 0 recordings, officially 1"),
        (without("1", "2", "3", "4", "6"), "partial", "train has 0 recordings, officially 4; dev has 1 recordings"),
        ((*WHOLE, utterance("8", "dev", speaker="z")), "wrong", "dev has 3 recordings, officially 2"),
        ((*without("1"), utterance("8", "test")), "wrong", "train has 3 recordings, officially 4; test has 2"),
        (changed("1", speaker="w"), "wrong", "train has 3 speakers, officially 2"),
        (changed("5", speaker="y"), "wrong", "dev has 2 speakers, officially 1"),
        (changed("1", reference="b"), "wrong", "train has 2 of 'a', officially 3; train has 2 of 'b', officially 1"),
        (changed("1", reference="c"), "wrong", "train has 2 of 'a', officially 3"),
        (changed("1", samples=2 * HOUR), "wrong", "train has 5.00 hours, officially 4"),
    ],
)
def test_what_is_not_official_is_said(utterances, verdict, words):
    found = vetted(utterances)
    assert found.verdict == verdict
    assert str(found).startswith(f"{verdict}: {words}")


def test_speakers_without_a_name_are_none():
    assert vetted(changed("1", speaker="")).verdict == "complete"  # x speaks once more in train


def test_hours_agree_within_a_hundredth():
    # Four hours of official sound: 3.96 and 4.04 are the bounds.
    for samples, verdict in ((0.965, "complete"), (1.035, "complete"), (0.955, "wrong"), (1.045, "wrong")):
        assert vetted(changed("1", samples=int(samples * HOUR))).verdict == verdict


def test_a_bank_of_crops_is_one_recording():
    bank = [utterance(f"7#{crop:03d}", "test", bank="7") for crop in range(5)]
    found = vetted([*without("7"), *bank])
    assert found.verdict == "complete"
    assert found.findings[2].utterances == 1
    two = [replace(u, id=f"8{u.id}", bank="8") for u in bank]
    assert str(vetted([*without("7"), *bank, *two])) == "wrong: test has 2 recordings, officially 1"


def test_folds_are_parts():
    protocol = replace(PROTOCOL, sizes=(PartSize(part="1", utterances=2, speakers=1), PartSize(part="2", utterances=1)))
    folds = [
        utterance("a", "", fold="1", speaker="x"),
        utterance("b", "", fold="1", speaker="x"),
        utterance("c", "", fold="2"),
    ]
    assert vetted(folds, protocol).verdict == "complete"
    assert str(vetted(folds[1:], protocol)) == "partial: fold 1 has 1 recordings, officially 2"


def test_there_must_be_something_to_hold_it_against():
    assert vetted(WHOLE, official=False).verdict == "unknown"
    assert vetted(WHOLE, replace(PROTOCOL, sizes=())).verdict == "unknown"
    assert vetted(WHOLE, official=False).findings == ()
