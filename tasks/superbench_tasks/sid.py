"""Speaker identification: who speaks, of the 1,251 speakers of VoxCeleb1, scored by accuracy.

Constants are those of s3prl@ec8064b, downstream/voxceleb1 (config.yaml, expert.py, dataset.py):

- data: VoxCeleb1's identification split (`iden_split.txt`, which s3prl ships as `veri_test_class.txt`): 138,361 /
  6,904 / 8,251 utterances of the same 1,251 speakers, apart by video;
- head: Linear to 256, mean over time, Linear to the speakers, nothing non-linear (the `pooled_linear` downstream);
- 200,000 steps of Adam, gradient norm clipped at 1, dev scored every 5,000; batch 8, four of them per step;
- learning rates: config.yaml has 1e-4; SUPERB's rule is a search on a log scale, chosen on dev (docs/superb.md).

Departures: s3prl crops a training utterance of more than 8 s to 8 random seconds, afresh each epoch; here it is used
whole, as dev and test are there. Classes are the sorted speakers of train, which for the official 1,251 is s3prl's
own numbering (`int(id) - 10001`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from superbench.contracts import Row
from superbench.errors import DataError
from superbench.labels import ClassLabels, Labels
from superbench.plugin import NoOptions, TaskProtocol, TaskSpec
from superbench_tasks.trees import lines, official_folder, refuse

FOLDER = "VoxCeleb1"
LISTS = ("iden_split.txt", "veri_test_class.txt")  # two names of one list
WAVS = ("dev/wav", "test/wav", "wav")  # as the two archives unpack, or both into one
SPLITS_BY_NUMBER = {"1": "train", "2": "dev", "3": "test"}
LINE = re.compile(r"([123])\s+((\S+?)/(\S+?)/\S+\.wav)\s*")


def labels(references: Sequence[str], official: bool) -> Labels:
    """Return the sorted speakers of train."""
    return ClassLabels.sorted_from(references)


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
    version="0.1",
    departures=("batches are shuffled epochs without end: none is short",),
    unfinished=("training recordings are used whole, not in random crops of 8 s",),
    protocol=TaskProtocol(
        head="pooled_linear",
        objective="cross_entropy",
        metrics=("accuracy",),
        steps=200_000,
        batch=8,
        accumulate=4,
        eval_every=5_000,
        clip=1.0,
        lr_grid=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
    ),
    column="speaker",
    labels=labels,
    read=read,
    folders=(FOLDER,),
    summary="speaker identification (VoxCeleb1, accuracy)",
)
