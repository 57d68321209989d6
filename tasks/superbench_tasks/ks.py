"""Keyword spotting: ten words, unknown words and silence of Speech Commands v0.01, scored by accuracy.

Constants are those of s3prl@ec8064b, downstream/speech_commands (config.yaml, expert.py, dataset.py):

- data: the training archive, divided by the SHA-1 of the speaker as its publishers do (below 10 % dev, below 20 % what
  became their test set and is dropped, else train: 51,088 and 6,798), and the separate test set (3,081), of which the
  folders are the classes;
- 12 classes: ten words, the other twenty as `_unknown_`, and `_silence_`;
- head: Linear to 256, mean over time, Linear to 12, nothing non-linear (the `pooled_linear` downstream);
- 200,000 steps of Adam, gradient norm clipped at 1, dev scored every 5,000; batch 32;
- learning rates: config.yaml has 1e-4; SUPERB's rule is a search on a log scale, chosen on dev (docs/superb.md).

Departures: s3prl draws a random second of a background file each time silence comes up, from the same files in train
and dev, and draws train and dev with weights that balance the classes. Here each background file is cut into
consecutive seconds (what is left at its end is not used); every tenth is in dev, the rest in train. And s3prl turns
all sound down by 3 dB with sox; here it is used as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from superbench.contracts import Row
from superbench.labels import ClassLabels, Labels
from superbench.plugin import NoOptions, TaskProtocol, TaskSpec
from superbench_tasks.trees import official_folder, refuse, subfolder, visible

TRAINING, TESTING = "speech_commands_v0.01", "speech_commands_test_set_v0.01"
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE, NOISE = "_unknown_", "_silence_", "_background_noise_"
CLASSES = (*WORDS, UNKNOWN, SILENCE)
OTHER_WORDS = frozenset(
    (
        "bed",
        "bird",
        "cat",
        "dog",
        "eight",
        "five",
        "four",
        "happy",
        "house",
        "marvin",
        "nine",
        "one",
        "seven",
        "sheila",
        "six",
        "three",
        "tree",
        "two",
        "wow",
        "zero",
    )
)
MAX_HASH = 2**27 - 1  # MAX_NUM_WAVS_PER_CLASS of the publishers' README, section "Partitioning"
DEV_PERCENT, TEST_PERCENT = 10, 10  # validation_percentage and testing_percentage there


def labels(references: Sequence[str], official: bool) -> Labels:
    """Return the twelve classes of the official corpus, else the sorted labels of train."""
    return ClassLabels(CLASSES) if official else ClassLabels.sorted_from(references)


def split_of(speaker: str) -> str:
    """Say which split the publishers' rule puts a speaker into: "train", "dev" or "test"."""
    hashed = int(hashlib.sha1(speaker.encode()).hexdigest(), 16)
    percent = (hashed % (MAX_HASH + 1)) * (100.0 / MAX_HASH)
    if percent < DEV_PERCENT:
        return "dev"
    return "test" if percent < DEV_PERCENT + TEST_PERCENT else "train"


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
    for word in WORDS:
        subfolder(folder, word)
    for home in visible(folder, "*/"):
        if home.name == NOISE:
            continue
        if home.name not in WORDS and home.name not in OTHER_WORDS:
            wrong.append(f"{home}: Speech Commands v0.01 has no such word")
            continue
        for path in visible(home, "*.wav"):
            speaker = _speaker(path, wrong)
            split = split_of(speaker)
            if split != "test":
                label = home.name if home.name in WORDS else UNKNOWN
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
    """Cut background files into seconds: windows 9, 19, ... are dev, the others train."""
    import soundfile

    files = visible(folder, "*.wav")
    if not files:
        wrong.append(f"{folder} has no recording, so that there is no {SILENCE} to train on")
    for path in files:
        try:
            found = soundfile.info(path)
        except soundfile.SoundFileError as error:
            wrong.append(f"{path}: cannot be read: {error}")
            continue
        for second in range(found.frames // found.samplerate):
            yield _row(path, "dev" if second % 10 == 9 else "train", SILENCE, second=second)


def _row(path: Path, split: str, label: str, *, speaker: str = "", word: str = "", second: int | None = None) -> Row:
    """A row whose id is the path below the corpus root: both folders have files of one name."""
    id_ = "/".join(path.with_suffix("").parts[-3:])
    return Row(
        id=id_ if second is None else f"{id_}:{second:03d}",
        path=path,
        split=split,
        speaker=speaker,
        labels={"label": label, "speaker": speaker, "word": word},
        start=None if second is None else float(second),
        end=None if second is None else second + 1.0,
        where=str(path),
    )


TASK = TaskSpec(
    name="ks",
    version="0.1",
    unfinished=(
        "no class-balanced sampling in training and dev",
        "no gain of -3 dB",
        "silence: each background file in consecutive windows of 1 s, every tenth in dev, in place of random windows",
    ),
    protocol=TaskProtocol(
        head="pooled_linear",
        objective="cross_entropy",
        metrics=("accuracy",),
        steps=200_000,
        batch=32,
        accumulate=1,
        eval_every=5_000,
        clip=1.0,
        lr_grid=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
    ),
    column="label",
    labels=labels,
    read=read,
    folders=(TRAINING, TESTING),
    speakers="disjoint",
    summary="keyword spotting (Speech Commands v0.01, 12 classes, accuracy)",
)
