"""How large a corpus is made: "small" to show something, "tiny" for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Commands:
    """One split of Speech Commands: speakers, how often each says every keyword, and how many other words each says."""

    speakers: int
    repeats: int
    others: int


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a corpus is made."""

    readings: Mapping[str, tuple[int, int]]  # LibriSpeech split -> speakers, sentences of each
    commands: Mapping[str, Commands]  # Speech Commands split -> what is said; "test set" is the archive of its own
    background_seconds: int  # of each of the six noises
    silences: int  # noise clips of the test set
    celebrities: int
    videos: tuple[tuple[int, int], ...]  # of each celebrity: split (1 train, 2 dev, 3 test), clips
    dialogs: int  # per IEMOCAP session, one or two
    styles: Mapping[str, int]  # IEMOCAP label -> turns of each speaker


SIZES = {
    "small": Size(
        readings={"train-clean-100": (12, 10), "dev-clean": (5, 6), "test-clean": (5, 6)},
        commands={
            "training": Commands(speakers=18, repeats=2, others=8),
            "validation": Commands(speakers=6, repeats=1, others=4),
            "testing": Commands(speakers=2, repeats=1, others=2),
            "test set": Commands(speakers=8, repeats=1, others=4),
        },
        background_seconds=20,
        silences=12,
        celebrities=12,
        videos=((1, 5), (1, 5), (2, 3), (3, 3)),
        dialogs=2,
        styles={"neu": 4, "hap": 2, "exc": 2, "ang": 3, "sad": 3, "fru": 1, "xxx": 1},
    ),
    "tiny": Size(
        readings={"train-clean-100": (2, 6), "dev-clean": (1, 4), "test-clean": (1, 4)},
        commands={
            "training": Commands(speakers=2, repeats=1, others=2),
            "validation": Commands(speakers=1, repeats=1, others=2),
            "testing": Commands(speakers=1, repeats=1, others=1),
            "test set": Commands(speakers=1, repeats=1, others=2),
        },
        background_seconds=3,
        silences=2,
        celebrities=3,
        videos=((1, 2), (2, 1), (3, 1)),
        dialogs=1,
        styles={"neu": 1, "hap": 1, "exc": 1, "ang": 1, "sad": 1, "fru": 1},
    ),
}
