"""Emotion recognition: four emotions of IEMOCAP, five folds, scored by accuracy.

Constants are those of s3prl@ec8064b, downstream/emotion (config.yaml, expert.py, dataset.py, IEMOCAP_preprocess.py):

- data: the turns of IEMOCAP labelled neutral, happy, angry, sad or excited (which becomes happy): 5,531; the others
  are left out;
- folds: session k is test; of the other four, 20 % drawn by `random_split` after `torch.manual_seed(0)` are dev and
  the rest train, so that a speaker may be in both (and `speakers` is "any");
- head: Linear to 256, mean over time, Linear to 4, nothing non-linear (the `pooled_linear` downstream);
- 30,000 steps of Adam, gradient norm clipped at 1, dev scored every 1,000; batch 4, eight of them per step;
- learning rates: config.yaml has 1e-4; SUPERB's rule is a search on a log scale, chosen on dev (docs/superb.md).

Departure: s3prl draws dev from lists shipped with it, in the order of somebody's file system; here from sorted ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from superbench.contracts import Corpus, Partition, Row
from superbench.labels import ClassLabels, Labels
from superbench.plugin import NoOptions, TaskProtocol, TaskSpec
from superbench_tasks.trees import lines, official_folder, refuse, subfolder, visible

FOLDER = "IEMOCAP"
SESSIONS = ("1", "2", "3", "4", "5")
EMOTIONS = {"ang": "ang", "hap": "hap", "exc": "hap", "neu": "neu", "sad": "sad"}
CLASSES = ("ang", "hap", "neu", "sad")
TRAIN_SHARE = 0.8  # of the four sessions that are not test
TURN = re.compile(r"\[[\d.]+ - [\d.]+\]\t(\S+)_([FM]\S*)\t(\w+)\t\[.*\]\s*")


def labels(references: Sequence[str], official: bool) -> Labels:
    """Return the four classes of the official corpus, else the sorted labels of train."""
    return ClassLabels(CLASSES) if official else ClassLabels.sorted_from(references)


def read(root: Path, options: NoOptions) -> tuple[Row, ...]:
    """Read the sentences of `root`/IEMOCAP that have one of the four labels; the fold is the session.

    Raises `DataError` with every turn that has no sound, every turn listed twice, and every line that is none.
    """
    folder = official_folder(root, FOLDER)
    wrong: list[str] = []
    rows: dict[str, Row] = {}
    for session in SESSIONS:
        home = subfolder(folder, f"Session{session}")
        for evaluation in visible(subfolder(home, "dialog/EmoEvaluation"), "*.txt"):
            for row in _turns(home, evaluation, session, wrong):
                if row.id in rows:
                    wrong.append(f"{row.where}: {row.id} is listed at {rows[row.id].where} already")
                rows.setdefault(row.id, row)
    refuse(wrong, folder)
    return tuple(rows.values())


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


def partitions(corpus: Corpus) -> tuple[Partition, ...]:
    """One partition per session (see the module's docstring); what torch draws depends on the seed alone."""
    import torch

    made = []
    for session in SESSIONS:
        test = tuple(i for i, u in enumerate(corpus.utterances) if u.fold == session)
        others = [i for i, u in enumerate(corpus.utterances) if u.fold != session]
        # What random_split does: a permutation from the generator, cut at the lengths.
        drawn = torch.randperm(len(others), generator=torch.Generator().manual_seed(0)).tolist()
        cut = int(TRAIN_SHARE * len(others))
        train, dev = (tuple(sorted(others[i] for i in part)) for part in (drawn[:cut], drawn[cut:]))
        made.append(Partition(name=f"fold{session}", train=train, dev=dev, test=test))
    return tuple(made)


TASK = TaskSpec(
    name="er",
    version="0.1",
    departures=("folds divide sorted ids with seed 0; the reference shuffles a list in its maker's file order",),
    protocol=TaskProtocol(
        head="pooled_linear",
        objective="cross_entropy",
        metrics=("accuracy",),
        steps=30_000,
        batch=4,
        accumulate=8,
        eval_every=1_000,
        clip=1.0,
        lr_grid=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
    ),
    column="label",
    labels=labels,
    read=read,
    folders=(FOLDER,),
    partitions=partitions,
    summary="emotion recognition (IEMOCAP, four classes, five folds, accuracy)",
)
