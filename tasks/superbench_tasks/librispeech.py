"""LibriSpeech's official tree, read for the tasks that transcribe it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from superbench.contracts import PartSize, Row
from superbench_tasks.trees import lines, official_folder, refuse, subfolder

FOLDER = "LibriSpeech"
SUBSETS = {"train-clean-100": "train", "dev-clean": "dev", "test-clean": "test"}
"""SUPERB's three subsets (s3prl@ec8064b, downstream/asr/config.yaml)."""
SIZES = (
    PartSize(part="train", utterances=28_539, speakers=251, hours=100.6),
    PartSize(part="dev", utterances=2_703, speakers=40, hours=5.4),
    PartSize(part="test", utterances=2_620, speakers=40, hours=5.4),
)
"""Speakers and hours as openslr.org/12 and the corpus's README.TXT state them."""


def read_librispeech(root: Path) -> tuple[Row, ...]:
    """Read the three subsets below `root`/LibriSpeech into rows with `text`, `speaker`, `subset` and `chapter`.

    Raises `DataError` with every line that has no flac, every flac that has no line, and every line that is none.
    """
    folder = official_folder(root, FOLDER)
    wrong: list[str] = []
    rows = [row for subset in SUBSETS for row in _read_subset(subfolder(folder, subset), wrong)]
    refuse(wrong, folder)
    return tuple(rows)


# Three lines of 1089-134686.trans.txt, which lies beside 1089-134686-0000.flac (speaker-chapter-number):
#   1089-134686-0000 HE HOPED THERE WOULD BE STEW FOR DINNER TURNIPS AND CARROTS AND BRUISED POTATOES AND FAT MUTTON...
#   1089-134686-0001 STUFF IT INTO YOU HIS BELLY COUNSELLED HIM
#   1089-134686-0002 AFTER EARLY NIGHTFALL THE YELLOW LAMPS WOULD LIGHT UP HERE AND THERE THE SQUALID QUARTER OF THE...
def _read_subset(subset: Path, wrong: list[str]) -> Iterator[Row]:
    flacs = {path.stem: path for path in sorted(subset.rglob("*.flac")) if not path.name.startswith(".")}
    listed: dict[str, str] = {}
    for transcript in sorted(subset.rglob("*.trans.txt")):
        if transcript.name.startswith("."):
            continue
        for where, line in lines(transcript):
            id_, _, text = line.strip().partition(" ")
            parts = id_.split("-")
            if len(parts) != 3 or not text.strip():
                wrong.append(f"{where}: not an utterance id and its words: {line[:60]!r}")
            elif id_ in listed:
                wrong.append(f"{where}: {id_} is listed at {listed[id_]} already")
            elif id_ not in flacs or flacs[id_].parent != transcript.parent:
                wrong.append(f"{where}: there is no {id_}.flac beside {transcript.name}")
            else:
                speaker, chapter, _ = parts
                yield Row(
                    id=id_,
                    path=flacs[id_],
                    split=SUBSETS[subset.name],
                    speaker=speaker,
                    labels={"text": text.strip(), "speaker": speaker, "chapter": chapter, "subset": subset.name},
                    where=where,
                )
            listed.setdefault(id_, where)
    wrong += [f"{path}: no transcript lists it" for id_, path in flacs.items() if id_ not in listed]
