"""Emotion recognition: four emotions of IEMOCAP, five folds, scored by accuracy.

The constants are those of s3prl@ec8064b, downstream/emotion (config.yaml, expert.py, dataset.py,
IEMOCAP_preprocess.py), and stand in `PROTOCOL`; what is not said by their names:

- data: the turns of IEMOCAP labelled neutral, happy, angry, sad or excited (which becomes happy); others are left out;
- folds: session k is test; of the other four, 20 % drawn by `random_split` after `torch.manual_seed(0)` are dev and
  the rest train, so that a speaker may be in both (and `speakers` is "any"). What is divided are the sorted ids, or
  with `--meta DIR` the lists that s3prl ships, in their order: its very split;
- the score is the mean of the five folds' accuracies; the unweighted average recall stands beside it;
- learning rates: config.yaml has 1e-4; SUPERB's rule is a search on a log scale, chosen on dev (docs/superb.md).

Departures from the reference are in `TASK.departures`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from superbench.contracts import Corpus, Partition, PartSize, Row
from superbench.errors import DataError, UsageError
from superbench.labels import ClassLabels, Labels
from superbench.plugin import TaskProtocol, TaskSpec
from superbench_tasks.departures import (
    ER_FOLDS,
    EXACT_FEATURES,
    FILE_ORDER,
    INFINITE_GRADIENTS,
    LEARNING_RATES,
    TEST_ONCE,
    WHOLE_BATCHES,
)
from superbench_tasks.trees import lines, official_folder, refuse, subfolder, visible

FOLDER = "IEMOCAP"
TURN = re.compile(r"\[[\d.]+ - [\d.]+\]\t(\S+)_([FM]\S*)\t(\w+)\t\[.*\]\s*")


@dataclass(frozen=True, kw_only=True)
class ErProtocol(TaskProtocol):
    """What ER has beside the constants of every task."""

    classes: tuple[str, ...]
    merged: tuple[tuple[str, str], ...]  # labels of the corpus, and the class each one becomes
    sessions: tuple[str, ...]  # one fold each
    train_share: float  # of the four sessions that are not test; the rest is dev
    split_seed: int


def _session(number: str, utterances: int, **classes: int) -> PartSize:
    return PartSize(part=number, utterances=utterances, speakers=2, classes=tuple(classes.items()))


PROTOCOL = ErProtocol(
    family="superb",
    source="s3prl@ec8064b downstream/emotion; arXiv 2105.01051",
    head="pooled_linear:projector=256",
    objective="cross_entropy",
    metrics=("accuracy", "uar"),
    steps=30_000,
    batch=4,
    accumulate=8,
    eval_every=1_000,
    clip=1.0,
    must_beat=0.0,
    lr_grid=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
    sizes=(
        _session("1", 1_085, neu=384, hap=278, ang=229, sad=194),
        _session("2", 1_023, neu=362, hap=327, ang=137, sad=197),
        _session("3", 1_151, neu=320, hap=286, ang=240, sad=305),
        _session("4", 1_031, neu=258, hap=303, ang=327, sad=143),
        _session("5", 1_241, neu=384, hap=442, ang=170, sad=245),
    ),
    classes=("neu", "hap", "ang", "sad"),
    merged=(("neu", "neu"), ("hap", "hap"), ("exc", "hap"), ("ang", "ang"), ("sad", "sad")),
    sessions=("1", "2", "3", "4", "5"),
    train_share=0.8,
    split_seed=0,
)
EMOTIONS = dict(PROTOCOL.merged)
PLACE = "place among the training turns of session "


@dataclass(frozen=True)
class Options:
    """Where the split comes from."""

    meta: str = ""  # folder of Session1..5/{train,test}_meta_data.json, as s3prl has in downstream/emotion/meta_data


def labels(references: Sequence[str], official: bool) -> Labels:
    """Return the four classes of the official corpus, else the sorted labels of train."""
    return ClassLabels(PROTOCOL.classes) if official else ClassLabels.sorted_from(references)


def read(root: Path, options: Options) -> tuple[Row, ...]:
    """Read the sentences of `root`/IEMOCAP that have one of the four labels; the fold is the session.

    Raises `DataError` with every turn that has no sound, every turn listed twice, and every line that is none.
    """
    folder = official_folder(root, FOLDER)
    wrong: list[str] = []
    rows: dict[str, Row] = {}
    for session in PROTOCOL.sessions:
        home = subfolder(folder, f"Session{session}")
        for evaluation in visible(subfolder(home, "dialog/EmoEvaluation"), "*.txt"):
            for row in _turns(home, evaluation, session, wrong):
                if row.id in rows:
                    wrong.append(f"{row.where}: {row.id} is listed at {rows[row.id].where} already")
                rows.setdefault(row.id, row)
    refuse(wrong, folder)
    found = tuple(rows.values())
    return _in_listed_order(found, Path(options.meta)) if options.meta else found


# Three lines of Session1/dialog/EmoEvaluation/Ses01F_impro01.txt, of which the turns begin with a bracket (times in the
# dialog, turn, emotion, valence/activation/dominance, tabs between); the sound is sentences/wav/Ses01F_impro01/TURN.wav
#   % [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]
#   [1.5000 - 3.5000]<tab>Ses01F_impro01_M000<tab>neu<tab>[2.5000, 2.5000, 2.5000]
#   C-E2:<tab>Neutral;<tab>()
def _turns(home: Path, evaluation: Path, session: str, wrong: list[str]) -> Iterator[Row]:
    for where, text in lines(evaluation):
        if not text.startswith("["):
            continue
        turn = TURN.fullmatch(text)
        if turn is None:
            wrong.append(f"{where}: not a turn: {text!r}")
            continue
        dialog, number, emotion = turn.groups()
        if emotion not in EMOTIONS:
            continue
        path = home / "sentences" / "wav" / dialog / f"{dialog}_{number}.wav"
        if not path.is_file():
            wrong.append(f"{where}: there is no {path}")
            continue
        # The name of the dialog says who wears the markers; who speaks is the letter of the turn.
        speaker = f"Ses0{session}{number[0]}"
        yield Row(
            id=path.stem,
            path=path,
            fold=session,
            speaker=speaker,
            labels={"label": EMOTIONS[emotion], "emotion": emotion, "speaker": speaker, "session": session},
            where=where,
        )


def complete(rows: Sequence[Row], options: Options) -> Sequence[Row]:
    """Refuse `--meta` with a manifest, which has folds of its own."""
    if options.meta and not all(any(name.startswith(PLACE) for name in row.labels) for row in rows):
        raise UsageError("--meta divides the official IEMOCAP", "leave it out with --data, or give --corpus")
    return rows


def _in_listed_order(rows: Sequence[Row], folder: Path) -> tuple[Row, ...]:
    """Add to every row its place in each session's training list; the lists must have the very turns of the tree."""
    wrong: list[str] = []
    places: dict[str, dict[str, str]] = {row.id: {} for row in rows}
    for session in PROTOCOL.sessions:
        for part, inside in (("test", True), ("train", False)):
            file = folder / f"Session{session}" / f"{part}_meta_data.json"
            listed = _listed(file)
            there = {row.id: row.labels["label"] for row in rows if (row.fold == session) == inside}
            if listed != there:
                odd = sorted(dict(listed.items() ^ there.items()))
                wrong.append(f"{file}: {len(odd)} turns are not those of the tree, or not so labelled: {odd[:3]}")
            elif part == "train":
                for place, id_ in enumerate(listed):
                    places[id_][_place_in(session)] = str(place)
    if wrong:
        raise DataError("\n".join(wrong), "give the lists that were made from this corpus, or leave --meta out")
    return tuple(replace(row, labels={**row.labels, **places[row.id]}) for row in rows)


# The lists, one object each:
#   {"labels": {"neu": 0, "hap": 1, "ang": 2, "sad": 3},
#    "meta_data": [{"path": "Session2/sentences/wav/Ses02F_impro01/Ses02F_impro01_F000.wav",
#                   "label": "neu", "speaker": "Ses02F"}, ...]}
def _listed(file: Path) -> dict[str, str]:
    """Turn -> label, in the order of the list."""
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        entries = [(Path(entry["path"]).stem, str(entry["label"])) for entry in content["meta_data"]]
    except (OSError, ValueError) as error:
        raise DataError(f"the list {file} cannot be read: {error}", "--meta is the folder of Session1 to 5") from error
    except (KeyError, TypeError) as error:
        raise DataError(f"{file} is no list of turns: {error!r}", "see s3prl's downstream/emotion/meta_data") from error
    if len(dict(entries)) < len(entries):
        raise DataError(f"{file} lists a turn twice", "take the file from s3prl again")
    return dict(entries)


def _place_in(session: str) -> str:
    return f"{PLACE}{session}"


def partitions(corpus: Corpus) -> tuple[Partition, ...]:
    """One partition per session (see the module's docstring); what torch draws depends on the seed alone."""
    import torch

    made = []
    for session in PROTOCOL.sessions:
        test = tuple(i for i, u in enumerate(corpus.utterances) if u.fold == session)
        others = [i for i, u in enumerate(corpus.utterances) if u.fold != session]
        places = [corpus.utterances[i].labels.get(_place_in(session)) for i in others]
        if None not in places:  # the order of --meta
            others = [i for _, i in sorted(zip(map(int, filter(None, places)), others, strict=True))]
        # What random_split does: a permutation from the generator, cut at the lengths.
        drawn = torch.randperm(len(others), generator=torch.Generator().manual_seed(PROTOCOL.split_seed)).tolist()
        cut = int(PROTOCOL.train_share * len(others))
        train, dev = (tuple(sorted(others[i] for i in part)) for part in (drawn[:cut], drawn[cut:]))
        made.append(Partition(name=f"fold{session}", train=train, dev=dev, test=test))
    return tuple(made)


TASK = TaskSpec(
    name="er",
    version="1.0",
    protocol=PROTOCOL,
    departures=(EXACT_FEATURES, ER_FOLDS, WHOLE_BATCHES, FILE_ORDER, LEARNING_RATES, INFINITE_GRADIENTS, TEST_ONCE),
    column="label",
    labels=labels,
    read=read,
    folders=(FOLDER,),
    complete=complete,
    partitions=partitions,
    options=Options,
    summary="emotion recognition (IEMOCAP, four classes, five folds, accuracy)",
)
