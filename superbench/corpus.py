"""Stage 1: what a corpus claims, checked as a whole, becomes what a task trains and scores on."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from superbench.contracts import SPLITS, Corpus, Partition, Problem, Recording, Row, Utterance
from superbench.errors import ContractError, DataError, UsageError, did_you_mean
from superbench.labels import Labels
from superbench.plugin import TaskSpec

READERS = 8  # threads at most; reading waits for the disk and decodes outside the interpreter's lock
MIN_FOLDS = 3  # one to test on, one to choose on, one to train on
NAMES_SHOWN = 40  # a vocabulary up to this size is listed in an error
LINES_TOLD = 20  # of one kind of problem; more are counted
PLACES_TOLD = 3  # of problems in the same words

Found = tuple[tuple[Recording, ...], tuple[Problem, ...]]
Inspect = Callable[[Row], Found]
Recall = Callable[[Row], Found | None]


@dataclass(frozen=True, kw_only=True)
class _Item:
    """A row whose sound was read."""

    number: int  # of its row
    root: int  # of the root it lies under
    row: Row
    recording: Recording
    reference: str
    crop: int | None = None  # which of a bank; None: it is whole

    @property
    def part(self) -> str:
        return self.row.fold or self.row.split

    @property
    def where(self) -> str:
        return _where(self.row)

    @property
    def id(self) -> str:
        return self.row.id if self.crop is None else f"{self.row.id}#{self.crop:03d}"


def check(
    task: TaskSpec,
    rows: Sequence[Row],
    *,
    column: str,
    inspect: Inspect,
    roots: Sequence[Path],
    official: bool,
    left_out: int = 0,
    recall: Recall = lambda _: None,
) -> tuple[Corpus | None, Labels | None, tuple[Problem, ...]]:
    """Look at everything a corpus claims and return it checked, with its vocabulary and all that is wrong with it.

    `column` names the label that is the reference; `inspect` reads the sound of one row (see `superbench.audio`), and
    no path outside `roots` is given to it, nor a row of which `recall` knows what it would say. Corpus and vocabulary
    are None if and only if there is an error. A reference becomes what the vocabulary writes for it,
    `decode(encode(reference))`, so that a hypothesis is compared with a text in its own case and spacing. Rows under
    different roots that agree in sound, split, fold, speaker and reference are one recording listed by two manifests:
    the smallest id stays, with a warning (Speech Commands has its test set in both of its folders). An official corpus
    is what its publishers made it: the same sound twice is a warning there, and an error elsewhere where it crosses
    splits or has two references.
    """
    rows = [replace(row, id=unicodedata.normalize("NFC", row.id)) for row in rows]
    homes = _homes(rows, roots)
    problems = list(_division_problems(task, rows, official))
    for row, home in zip(rows, homes, strict=True):
        if home is None:
            where = f"{_where(row)}, file {row.path}"
            what = f"the file is not under {', '.join(map(str, roots))}"
            problems.append(Problem(kind="outside", where=where, what=what))
    items = []
    with ThreadPoolExecutor(max_workers=min(READERS, os.cpu_count() or 1)) as pool:
        inside = [(number, home) for number, home in enumerate(homes) if home is not None]
        known = [recall(rows[number]) for number, _ in inside]
        unknown_rows = [rows[number] for (number, _), said in zip(inside, known, strict=True) if said is None]
        inspected = pool.map(inspect, unknown_rows)
        for (number, home), said in zip(inside, known, strict=True):
            recordings, found = next(inspected) if said is None else said
            row, reference = rows[number], _reference(rows[number], column)
            problems += found
            if not reference.strip():
                problems.append(Problem(kind="no-reference", where=_where(row), what=f"{column!r} is empty"))
            elif row.crop is not None and (row.fold or row.split not in _cropped(task)):
                what = f"task {task.name} asks for crops of it, and only {' or '.join(_cropped(task))} may be cropped"
                problems.append(Problem(kind="crop", where=_where(row), what=what))
            else:
                crops: Sequence[int | None] = range(len(recordings)) if len(recordings) > 1 else [None]
                items += [
                    _Item(number=number, root=home, row=row, recording=recording, reference=reference, crop=crop)
                    for crop, recording in zip(crops, recordings, strict=False)  # none of a row in error
                ]
    items, merged, repeated = _merge(items)
    problems += merged
    problems += _id_problems([row for number, row in enumerate(rows) if number not in repeated], items)
    problems += _audio_problems(items, official)
    problems += _speaker_problems(task, items)
    labels, references, unknown = _vocabulary(task, items, official)
    problems += unknown
    if labels is None or any(p.severity == "error" for p in problems):
        return None, None, tuple(problems)
    utterances = [_utterance(item, reference) for item, reference in zip(items, references, strict=True)]
    corpus = Corpus(
        task=task.name,
        utterances=tuple(sorted(utterances, key=lambda u: u.id)),
        official=official,
        resampler=", ".join(sorted({item.recording.resampler for item in items} - {""})),
        left_out=left_out,
        warnings=tuple(problems),
    )
    return corpus, labels, tuple(problems)


def told(problems: Sequence[Problem]) -> list[str]:
    """Write problems as lines for people, errors first: those of one kind and in the same words share a line.

    Such a line has their number and the first three places. Of one kind there are at most 20 lines, and one that counts
    the rest.
    """
    kinds: dict[tuple[str, str], dict[str, list[Problem]]] = {}
    for problem in sorted(problems, key=lambda p: p.severity):
        kinds.setdefault((problem.severity, problem.kind), {}).setdefault(problem.what, []).append(problem)
    lines = []
    for (severity, kind), alike in kinds.items():
        groups = list(alike.values())
        lines += [_line(group) for group in groups[:LINES_TOLD]]
        rest = sum(len(group) for group in groups[LINES_TOLD:])
        if rest:
            lines.append(f"{severity}: {kind}: and {rest} more of this kind")
    return lines


def _line(alike: Sequence[Problem]) -> str:
    if len(alike) == 1:
        return str(alike[0])
    places = ", ".join(problem.where for problem in alike[:PLACES_TOLD])
    first = "the first " if len(alike) > PLACES_TOLD else ""
    return f"{alike[0].severity}: {alike[0].kind}: {len(alike)} cases, {first}{places}: {alike[0].what}"


def partitions(task: TaskSpec, corpus: Corpus) -> tuple[Partition, ...]:
    """Divide a corpus into train, dev and test, once or once per fold.

    An official corpus goes by the task's own rule where it has one. Else, with folds, fold k (in sorted order, by
    number where all are numbers) is test, the next one in the circle dev and the rest train; without, the splits hold.
    """
    if task.partitions is not None and corpus.official:
        found = tuple(task.partitions(corpus))
        _refuse_unsound(task, corpus, found)
        return found
    folds = sorted({u.fold for u in corpus.utterances})
    if folds == [""]:
        train, dev, test = (_indices(corpus, {split}) for split in SPLITS)
        return (Partition(name="all", train=train, dev=dev, test=test),)
    if len(folds) < MIN_FOLDS:
        raise DataError(f"{len(folds)} folds are too few: {', '.join(folds)}", f"give at least {MIN_FOLDS}, or splits")
    if all(fold.isascii() and fold.isdigit() for fold in folds):
        folds.sort(key=int)
    following = folds[1:] + folds[:1]
    return tuple(
        Partition(
            name=f"fold{k}",
            train=_indices(corpus, set(folds) - {tested, chosen_on}),
            dev=_indices(corpus, {chosen_on}),
            test=_indices(corpus, {tested}),
        )
        for k, (tested, chosen_on) in enumerate(zip(folds, following, strict=True), start=1)
    )


def _refuse_unsound(task: TaskSpec, corpus: Corpus, found: Sequence[Partition]) -> None:
    """A task's own rule must leave no part empty, mix none, and test every utterance of its folds exactly once."""
    wrong = []
    everyone = range(len(corpus.utterances))
    for p in found:
        if not set(everyone).issuperset((*p.train, *p.dev, *p.test)):
            raise ContractError(
                f"task {task.name}: {p.name} has an index that is no utterance's", "mend its partitions"
            )
        drawn = p.train if "dev" not in _cropped(task) else (*p.train, *p.dev)
        if {i for i in everyone if corpus.utterances[i].bank} & {*p.test, *p.dev}.difference(drawn):
            wrong.append(f"{p.name}: crops of a recording are scored, in place of the whole")
        if not (p.train and p.dev and p.test):
            wrong.append(f"{p.name}: train, dev or test is empty")
        if len({*p.train, *p.dev, *p.test}) < len(p.train) + len(p.dev) + len(p.test):
            wrong.append(f"{p.name}: an utterance is in it twice")
    tested = sorted(i for p in found for i in p.test)
    due = everyone if len(found) > 1 else _indices(corpus, {"test"})
    if tested != list(due):
        wrong.append(f"{len(tested)} utterances are tested, {len(due)} should be, each once")
    if wrong:
        raise ContractError(f"task {task.name} divides its corpus unsoundly: {'; '.join(wrong)}", "mend its partitions")


def limit(corpus: Corpus, per_split: int) -> Corpus:
    """Keep at most `per_split` utterances (a bank of crops is one) per split (per fold, where there are folds).

    They are the first in the order of the SHA-256 of their ids: spread over the corpus, the same on every machine, and
    a smaller limit keeps a part of what a larger one keeps.
    """
    if per_split < 1:
        raise UsageError(f"a limit of {per_split} utterances per split leaves nothing", "give a number from 1 up")
    parts: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    items = corpus.items(range(len(corpus.utterances)))
    for item in sorted(items, key=lambda i: hashlib.sha256(_name(corpus.utterances[i[0]]).encode()).digest()):
        first = corpus.utterances[item[0]]
        parts[first.fold or first.split].append(item)
    kept = [corpus.utterances[i] for part in parts.values() for item in part[:per_split] for i in item]
    return replace(corpus, utterances=tuple(sorted(kept, key=lambda u: u.id)))


def _name(utterance: Utterance) -> str:
    return utterance.bank or utterance.id


def _indices(corpus: Corpus, parts: Collection[str]) -> tuple[int, ...]:
    return tuple(i for i, u in enumerate(corpus.utterances) if (u.fold or u.split) in parts)


def _cropped(task: TaskSpec) -> tuple[str, ...]:
    """Splits whose recordings may be banks of crops: those that are drawn from. Folds are all tested."""
    return ("train", "dev") if task.protocol.dev_sampling == "balanced" else ("train",)


def _where(row: Row) -> str:
    return f"{row.id} ({row.where})" if row.where else row.id


def _reference(row: Row, column: str) -> str:
    return (column == "speaker" and row.speaker) or row.labels.get(column, "")


def _homes(rows: Sequence[Row], roots: Sequence[Path]) -> list[int | None]:
    """Which root holds the file of each row, with symbolic links followed; None where none does."""
    resolved = [root.resolve() for root in roots]
    order = sorted(range(len(roots)), key=lambda i: -len(resolved[i].parts))  # the deepest first
    folders = {folder: Path(os.path.realpath(folder)) for folder in {row.path.parent for row in rows}}
    files = [
        Path(os.path.realpath(row.path)) if row.path.is_symlink() else folders[row.path.parent] / row.path.name
        for row in rows
    ]
    return [next((i for i in order if file.is_relative_to(resolved[i])), None) for file in files]


def _division_problems(task: TaskSpec, rows: Sequence[Row], official: bool) -> Iterator[Problem]:
    """Every row has its place, and no part of the corpus is empty."""
    folds = {row.fold for row in rows if row.fold}
    if folds:
        for row in rows:
            if not row.fold:
                yield Problem(kind="fold", where=_where(row), what="it has no fold, and others have one")
        if len(folds) < MIN_FOLDS and not (official and task.partitions is not None):
            yield Problem(kind="fold", where=task.name, what=f"there are {len(folds)} folds, {MIN_FOLDS} are needed")
        return
    for row in rows:
        if row.split not in SPLITS:
            what = f"there is no split {row.split!r}: {did_you_mean(row.split, SPLITS)}"
            yield Problem(kind="split", where=_where(row), what=what)
    for split in SPLITS:
        if not any(row.split == split for row in rows):
            yield Problem(kind="empty-split", where=task.name, what=f"no utterance is in {split!r}")


def _merge(items: Sequence[_Item]) -> tuple[list[_Item], list[Problem], set[int]]:
    """Keep one of the rows that several roots have of one recording; returns the rest by row number as well."""
    same: dict[tuple[str, ...], list[_Item]] = defaultdict(list)
    for item in items:
        same[item.recording.content, item.part, item.row.speaker, item.reference].append(item)
    warnings = []
    repeated = set()
    for group in same.values():
        first, *rest = sorted(group, key=lambda item: (item.row.id, str(item.row.path)))
        for item in rest:
            if item.root != first.root and item.crop is None:
                what = f"it is the same recording as {first.where} and is used once"
                warnings.append(Problem(kind="listed-twice", where=item.where, what=what, severity="warning"))
                repeated.add(item.number)
    return [item for item in items if item.number not in repeated], warnings, repeated


def _id_problems(rows: Sequence[Row], items: Sequence[_Item]) -> Iterator[Problem]:
    first: dict[str, Row] = {}
    for row in rows:
        folded = unicodedata.normalize("NFC", row.id.casefold())
        if folded in first:
            what = f"the id is that of {_where(first[folded])} (letter case aside): give an 'id' column"
            yield Problem(kind="duplicate-id", where=_where(row), what=what)
        else:
            first[folded] = row
    for item in items:
        if item.crop is not None and (taken := first.get(item.id.casefold())):
            what = f"the id is that of a crop of {item.where}: give another 'id'"
            yield Problem(kind="duplicate-id", where=_where(taken), what=what)


def _audio_problems(items: Sequence[_Item], official: bool) -> Iterator[Problem]:
    same: dict[str, list[_Item]] = defaultdict(list)
    for item in items:
        same[item.recording.content].append(item)
    for first, *rest in same.values():
        for item in rest:
            if item.number == first.number:
                continue  # two crops of one recording that fell on one place
            differs = item.part != first.part or item.reference != first.reference
            yield Problem(
                kind="duplicate-audio",
                where=item.where,
                what=f"in {item.part!r} as {item.reference!r}, and the same sound is {first.where}, in {first.part!r} "
                f"as {first.reference!r}",
                severity="error" if differs and not official else "warning",
            )


def _speaker_problems(task: TaskSpec, items: Sequence[_Item]) -> Iterator[Problem]:
    """No speaker in two of train, dev and test, or in two folds, where the task says so."""
    if task.speakers != "disjoint":
        return
    parts: dict[str, Counter[str]] = defaultdict(Counter)
    for item in items:
        parts[item.row.speaker][item.part] += item.crop in (None, 0)
    unnamed = parts.pop("", Counter()).total()
    if unnamed:
        what = f"{unnamed} rows name no speaker, so that it cannot be told whether train and test share one"
        yield Problem(kind="no-speaker", where=task.name, what=what, severity="warning")
    for speaker, count in sorted(parts.items()):
        if len(count) > 1:
            yield Problem(
                kind="shared-speaker",
                where=f"speaker {speaker}",
                what="is in " + " and ".join(f"{part!r} ({n} rows)" for part, n in sorted(count.items())),
                severity="warning" if len(parts) == 1 and not unnamed else "error",
            )


def _vocabulary(
    task: TaskSpec, items: Sequence[_Item], official: bool
) -> tuple[Labels | None, list[str], list[Problem]]:
    """Build the vocabulary from the training references (with folds each is one) and write every reference in it."""
    training = [item.reference for item in items if item.row.fold or item.row.split == "train"]
    if not training:
        return None, [], []
    labels = task.labels(training, official)
    references = []
    problems = []
    for item in items:
        try:
            references.append(labels.decode(labels.encode(item.reference)))
        except KeyError as error:
            known = f"it has {', '.join(labels.names)}" if labels.size <= NAMES_SHOWN else f"it has {labels.size} names"
            where = f"{item.where} in {item.part!r}"
            for symbol in error.args:
                what = f"{symbol!r} is not in the vocabulary of {task.name}: {known}"
                problems.append(Problem(kind="label", where=where, what=what))
    return labels, references, problems


def _utterance(item: _Item, reference: str) -> Utterance:
    row, recording = item.row, item.recording
    return Utterance(
        id=item.id,
        path=recording.path,
        start=recording.start,
        stop=recording.stop,
        native_rate=recording.native_rate,
        samples=recording.samples,
        rate=recording.rate,
        content=recording.content,
        split=row.split,
        fold=row.fold,
        speaker=row.speaker,
        labels=row.labels,
        reference=reference,
        gain_db=recording.gain_db,
        bank="" if item.crop is None else row.id,
    )
