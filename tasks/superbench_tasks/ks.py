"""Keyword spotting: ten words, unknown words and silence of Speech Commands v0.01, scored by accuracy.

The constants are those of s3prl@ec8064b, downstream/speech_commands (config.yaml, expert.py, dataset.py), and stand
in `PROTOCOL`; what is not said by their names:

- data: the training archive, divided by the SHA-1 of the speaker as its publishers do (below 10 % dev, below 20 % what
  became their test set and is dropped, else train), and the separate test set, of which the folders are the classes;
- 12 classes: ten words, the other twenty as `_unknown_`, and `_silence_`;
- silence: one second of a background file, the same files in train and dev, drawn each time the file comes up;
- train and dev are drawn with weights that make the classes equally likely; test is used as it is;
- all sound is turned down by 3 dB (sox `gain -3`);
- learning rates: config.yaml has 1e-4; SUPERB's rule is a search on a log scale, chosen on dev (docs/superb.md).

Departures from the reference are in `TASK.departures`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from superbench.contracts import Crop, PartSize, Row
from superbench.labels import ClassLabels, Labels
from superbench.plugin import NoOptions, TaskProtocol, TaskSpec
from superbench_tasks.departures import (
    EXACT_FEATURES,
    FILE_ORDER,
    INFINITE_GRADIENTS,
    KS_DEV,
    KS_SILENCE,
    LEARNING_RATES,
    TEST_ONCE,
    WHOLE_BATCHES,
)
from superbench_tasks.trees import official_folder, refuse, subfolder, visible

TRAINING, TESTING = "speech_commands_v0.01", "speech_commands_test_set_v0.01"
UNKNOWN, SILENCE, NOISE = "_unknown_", "_silence_", "_background_noise_"


@dataclass(frozen=True, kw_only=True)
class KsProtocol(TaskProtocol):
    """What KS has beside the constants of every task."""

    words: tuple[str, ...]  # classes of their own
    other_words: tuple[str, ...]  # together the class `_unknown_`
    max_hash: int  # MAX_NUM_WAVS_PER_CLASS of the publishers' README, section "Partitioning"
    dev_percent: int  # validation_percentage there
    test_percent: int  # testing_percentage there
    silence: Crop  # of each background file, in train and again in dev


PROTOCOL = KsProtocol(
    family="superb",
    source="s3prl@ec8064b downstream/speech_commands; arXiv 2105.01051",
    head="pooled_linear:projector=256",
    objective="cross_entropy",
    metrics=("accuracy",),
    steps=200_000,
    batch=32,
    accumulate=1,
    eval_every=5_000,
    clip=1.0,
    must_beat=0.0,
    lr_grid=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
    gain_db=-3.0,
    sampling="balanced",
    dev_sampling="balanced",
    sizes=(
        PartSize(part="train", utterances=51_094),  # 51,088 words and the 6 background files
        PartSize(part="dev", utterances=6_804),  # 6,798 and the same 6
        PartSize(part="test", utterances=3_081),
    ),
    words=("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"),
    other_words=(
        "bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow",
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    ),
    max_hash=2**27 - 1,
    dev_percent=10,
    test_percent=10,
    silence=Crop(seconds=1.0, bank=128),
)  # fmt: skip
CLASSES = (*PROTOCOL.words, UNKNOWN, SILENCE)


def labels(references: Sequence[str], official: bool) -> Labels:
    """Return the twelve classes of the official corpus, else the sorted labels of train."""
    return ClassLabels(CLASSES) if official else ClassLabels.sorted_from(references)


def split_of(speaker: str) -> str:
    """Say which split the publishers' rule puts a speaker into: "train", "dev" or "test"."""
    hashed = int(hashlib.sha1(speaker.encode()).hexdigest(), 16)
    percent = (hashed % (PROTOCOL.max_hash + 1)) * (100.0 / PROTOCOL.max_hash)
    if percent < PROTOCOL.dev_percent:
        return "dev"
    return "test" if percent < PROTOCOL.dev_percent + PROTOCOL.test_percent else "train"


def read(root: Path, options: NoOptions) -> tuple[Row, ...]:
    """Read both folders of Speech Commands v0.01 below `root`.

    Raises `DataError` with every folder that is no word of it (version 0.02 has more words) and every file whose name
    does not tell its speaker.
    """
    training, testing = official_folder(root, TRAINING), official_folder(root, TESTING)
    wrong: list[str] = []
    rows = [*_words(training, wrong), *_noise(subfolder(training, NOISE), wrong), *_test(testing, wrong)]
    refuse(wrong, root)
    return tuple(rows)


# Three files of the training archive (word, speaker, how many of that word they spoke before):
#   bed/042186b8_nohash_0.wav
#   right/ab246696_nohash_0.wav
#   right/ab246696_nohash_1.wav
def _words(folder: Path, wrong: list[str]) -> Iterator[Row]:
    for word in PROTOCOL.words:
        subfolder(folder, word)
    for home in visible(folder, "*/"):
        if home.name == NOISE:
            continue
        if home.name not in PROTOCOL.words and home.name not in PROTOCOL.other_words:
            wrong.append(f"{home}: Speech Commands v0.01 has no such word")
            continue
        for path in visible(home, "*.wav"):
            speaker = _speaker(path, wrong)
            split = split_of(speaker)
            if split != "test":
                label = home.name if home.name in PROTOCOL.words else UNKNOWN
                yield _row(path, split, label, speaker=speaker, word=home.name)


# Three files of the test set (in `_unknown_` the word stands before the speaker, in `_silence_` there is none):
#   right/f162bf5d_nohash_0.wav
#   _unknown_/bed_91223b83_nohash_0.wav
#   _silence_/boiler_0.wav
def _test(folder: Path, wrong: list[str]) -> Iterator[Row]:
    for label in CLASSES:
        subfolder(folder, label)
    for home in visible(folder, "*/"):
        if home.name not in CLASSES:
            wrong.append(f"{home}: the test set has no such class")
            continue
        for path in visible(home, "*.wav"):
            if home.name == SILENCE:
                yield _row(path, "test", SILENCE)
            else:
                prefix, _, speaker = _speaker(path, wrong).rpartition("_")
                yield _row(path, "test", home.name, speaker=speaker, word=prefix or home.name)


def _speaker(path: Path, wrong: list[str]) -> str:
    speaker, mark, _ = path.stem.partition("_nohash_")
    if not mark or not speaker:
        wrong.append(f"{path}: the name has no speaker before _nohash_")
    return speaker


def _noise(folder: Path, wrong: list[str]) -> Iterator[Row]:
    """Each background file, once in train and once in dev, to be cut into a bank of seconds each."""
    files = visible(folder, "*.wav")
    if not files:
        wrong.append(f"{folder} has no recording, so that there is no {SILENCE} to train on")
    for path in files:
        for split in ("train", "dev"):
            yield _row(path, split, SILENCE, crop=PROTOCOL.silence)


def _row(path: Path, split: str, label: str, *, speaker: str = "", word: str = "", crop: Crop | None = None) -> Row:
    """A row whose id is the path below the corpus root: both folders have files of one name."""
    id_ = "/".join(path.with_suffix("").parts[-3:])
    return Row(
        id=id_ if crop is None else f"{id_}:{split}",
        path=path,
        split=split,
        speaker=speaker,
        labels={"label": label, "speaker": speaker, "word": word},
        where=str(path),
        crop=crop,
    )


TASK = TaskSpec(
    name="ks",
    version="1.0",
    protocol=PROTOCOL,
    departures=(
        EXACT_FEATURES,
        KS_SILENCE,
        KS_DEV,
        WHOLE_BATCHES,
        FILE_ORDER,
        LEARNING_RATES,
        INFINITE_GRADIENTS,
        TEST_ONCE,
    ),
    column="label",
    labels=labels,
    read=read,
    folders=(TRAINING, TESTING),
    speakers="disjoint",
    summary="keyword spotting (Speech Commands v0.01, 12 classes, accuracy)",
)
