"""Speaker identification: who speaks, of the 1,251 speakers of VoxCeleb1, scored by accuracy.

The constants are those of s3prl@ec8064b, downstream/voxceleb1 (config.yaml, expert.py, dataset.py), and stand in
`PROTOCOL`; what is not said by their names:

- data: VoxCeleb1's identification split (`iden_split.txt`, which s3prl ships as `veri_test_class.txt`), train, dev and
  test of the same 1,251 speakers, apart by video; a speaker's class is the number in the id, less 10,001;
- training recordings of more than 8 s are used in crops of 8 s; dev and test are used whole;
- learning rates: config.yaml has 1e-4; SUPERB's rule is a search on a log scale, chosen on dev (docs/superb.md).

Departures from the reference are in `TASK.departures`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from superbench.contracts import Crop, PartSize, Row
from superbench.errors import DataError
from superbench.labels import ClassLabels, Labels
from superbench.plugin import NoOptions, TaskProtocol, TaskSpec
from superbench_tasks.departures import (
    EXACT_FEATURES,
    FILE_ORDER,
    INFINITE_GRADIENTS,
    LEARNING_RATES,
    SID_CROPS,
    TEST_ONCE,
    WHOLE_BATCHES,
)
from superbench_tasks.trees import lines, official_folder, refuse

FOLDER = "VoxCeleb1"
LISTS = ("iden_split.txt", "veri_test_class.txt")  # two names of one list
WAVS = ("dev/wav", "test/wav", "wav")  # as the two archives unpack, or both into one
SPLITS_BY_NUMBER = {"1": "train", "2": "dev", "3": "test"}
LINE = re.compile(r"([123])\s+((\S+?)/(\S+?)/\S+\.wav)\s*")


@dataclass(frozen=True, kw_only=True)
class SidProtocol(TaskProtocol):
    """What SID has beside the constants of every task."""

    speakers: int  # outputs of the head on the official corpus
    first_speaker: int  # number in the id of class 0
    crop: Crop  # of training recordings


PROTOCOL = SidProtocol(
    family="superb",
    source="s3prl@ec8064b downstream/voxceleb1; arXiv 2105.01051",
    head="pooled_linear:projector=256",
    objective="cross_entropy",
    metrics=("accuracy",),
    steps=200_000,
    batch=8,
    accumulate=4,
    eval_every=5_000,
    clip=1.0,
    must_beat=0.0,
    lr_grid=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
    sizes=(
        PartSize(part="train", utterances=138_361, speakers=1_251),
        PartSize(part="dev", utterances=6_904),
        PartSize(part="test", utterances=8_251),
    ),
    speakers=1_251,
    first_speaker=10_001,
    crop=Crop(seconds=8.0, bank=4),
)


def labels(references: Sequence[str], official: bool) -> Labels:
    """Return the 1,251 speakers of the official corpus, else the sorted speakers of train."""
    if official:
        return ClassLabels(tuple(f"id{PROTOCOL.first_speaker + i}" for i in range(PROTOCOL.speakers)))
    return ClassLabels.sorted_from(references)


def complete(rows: Sequence[Row], options: NoOptions) -> Sequence[Row]:
    """Cut training recordings into crops, where they are longer; those of a cross-validation are all tested: whole."""
    return [replace(row, crop=PROTOCOL.crop) if row.split == "train" else row for row in rows]


def _index(folder: Path) -> dict[str, list[Path]]:
    """Walk the tree once: speaker/video/file.wav -> where it lies."""
    found: dict[str, list[Path]] = {}
    for name in WAVS:
        for path in sorted((folder / name).glob("*/*/*.wav")):
            found.setdefault(path.relative_to(folder / name).as_posix(), []).append(path)
    return found


def _split_list(folder: Path) -> Path:
    there = [folder / name for name in LISTS if (folder / name).is_file()]
    if not there:
        raise DataError(
            f"{folder} has neither {' nor '.join(LISTS)}",
            "take iden_split.txt, the identification split, from the VoxCeleb1 site and put it there",
        )
    first, *others = there
    for other in others:
        if [text.split() for _, text in lines(other)] != [text.split() for _, text in lines(first)]:
            raise DataError(f"{first} and {other} are not the same list", "keep the one of the VoxCeleb1 site")
    return first


# Three lines of iden_split.txt (1 train, 2 dev, 3 test; speaker/video/file):
#   1 id10001/84bcd3d94f5/00001.wav
#   3 id10001/dd6499e8664/00001.wav
#   2 id10001/e5ed4dad5dc/00001.wav
def read(root: Path, options: NoOptions) -> tuple[Row, ...]:
    """Read `root`/VoxCeleb1 by its identification list; files the list does not name play no part.

    Raises `DataError` with every file that is missing or there twice, and every line that is none.
    """
    folder = official_folder(root, FOLDER)
    found = _index(folder)
    wrong: list[str] = []
    rows: dict[str, Row] = {}
    for where, text in lines(_split_list(folder)):
        line = LINE.fullmatch(text)
        if line is None:
            wrong.append(f"{where}: not a split and a file: {text!r}")
            continue
        number, name, speaker, video = line.groups()
        paths = found.get(name, [])
        if name in rows:
            wrong.append(f"{where}: {name} is listed at {rows[name].where} already")
        elif len(paths) != 1:
            there = " and ".join(map(str, paths)) or f"not under {', '.join(WAVS)}"
            wrong.append(f"{where}: {name} must be there once, and is {there}")
        else:
            rows[name] = Row(
                id=name.removesuffix(".wav"),
                path=paths[0],
                split=SPLITS_BY_NUMBER[number],
                speaker=speaker,
                labels={"speaker": speaker, "label": speaker, "video": video},
                where=where,
            )
    refuse(wrong, folder)
    return tuple(rows.values())


TASK = TaskSpec(
    name="sid",
    version="1.0",
    protocol=PROTOCOL,
    departures=(EXACT_FEATURES, SID_CROPS, WHOLE_BATCHES, FILE_ORDER, LEARNING_RATES, INFINITE_GRADIENTS, TEST_ONCE),
    column="speaker",
    labels=labels,
    read=read,
    folders=(FOLDER,),
    complete=complete,
    summary="speaker identification (VoxCeleb1, accuracy)",
)
