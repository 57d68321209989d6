"""Published lines: scores that others measured and printed. They stand beside our own as references, never among them.

A source is a CSV file of this package, one row per system, read as text:

    system,submitter,description,submitted,track,stride,input,corpus,parameters,pr.per,ks.accuracy,...
    FBANK,paper,classic feature,Interspeech2021,CONSTRAINED,10,waveform,,0,82.01,41.3826674,...

An empty cell was not published. The table `published` holds what was imported, one row per score; it is no part of the
chain of our records, and can be emptied and imported again at any time.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from types import MappingProxyType

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from superbench.errors import IntegrityError, UsageError
from superbench_leaderboard.schema import published

SCALE: Mapping[str, float] = MappingProxyType({"percent": 100.0, "mos": 1.0, "dB": 1.0})  # published = ours * SCALE


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where published lines come from."""

    name: str
    where: str
    snapshot: str  # its date and commit
    file: str  # of this package


@dataclass(frozen=True)
class Metric:
    """A column of a source: a metric by our names, and how others print it."""

    task: str
    name: str
    unit: str = "percent"  # a key of SCALE
    direction: str = "max"  # min or max

    def published_from(self, ours: float) -> float:
        """Our value (a fraction, where it is one) as others print it."""
        return ours * SCALE[self.unit]


@dataclass(frozen=True, kw_only=True)
class PublishedLine:
    """One published score."""

    source: str
    snapshot: str
    system: str
    task: str
    metric: str
    value: float  # as published, in `unit`
    unit: str
    direction: str  # min or max
    parameters: int | None  # of the upstream, shared by all tasks
    stride: int | None  # ms between frames
    submitter: str
    submitted: str  # as published: a time anywhere on earth (UTC-12), or a conference
    track: str
    input: str
    corpus: str  # what the upstream was trained on
    description: str

    @property
    def fraction(self) -> float:
        """The value on the scale of our scores."""
        return self.value / SCALE[self.unit]

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        return (self.source, self.snapshot, self.task, self.metric, self.system)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import did."""

    source: str
    snapshot: str
    new: int
    known: int  # and as they were published
    mended: int  # that said otherwise, or were never published


SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "superb": Source(
            name="superb",
            where="github.com/superbbenchmark/superbbenchmark.github.io, src/data/public.json",
            snapshot="2022-04-10 a35a9ec",
            file="published/superb.csv",
        )
    }
)

# Columns of SUPERB's public set. Error rates, accuracies, F1, STOI, MTWV and BLEU are printed times 100; PESQ is a mean
# opinion score, SI-SDRi is in dB.
METRICS = (
    Metric("pr", "per", direction="min"),
    Metric("ks", "accuracy"),
    Metric("ic", "accuracy"),
    Metric("sid", "accuracy"),
    Metric("er", "accuracy"),
    *(Metric("er", f"accuracy_fold{fold}") for fold in range(1, 6)),
    Metric("asr", "wer", direction="min"),
    Metric("asr", "wer_lm", direction="min"),  # with the 4-gram language model
    Metric("qbe", "mtwv"),
    Metric("sf", "slot_type_f1"),
    Metric("sf", "slot_value_cer", direction="min"),
    Metric("asv", "eer", direction="min"),
    Metric("sd", "der", direction="min"),
    Metric("st", "bleu"),
    Metric("se", "pesq", unit="mos"),
    Metric("se", "stoi"),
    Metric("ss", "si_sdri", unit="dB"),
)


def source_of(name: str) -> Source:
    """A source by its name; `UsageError` where nobody ships it."""
    if name not in SOURCES:
        raise UsageError(f"there is no source {name!r} of published lines", f"there is: {', '.join(sorted(SOURCES))}")
    return SOURCES[name]


def shipped(source: Source) -> list[PublishedLine]:
    """The lines of a source as this package brings them."""
    text = files("superbench_leaderboard").joinpath(source.file).read_text(encoding="utf-8")
    return [line for row in csv.DictReader(text.splitlines(), strict=True) for line in _lines(source, row)]


def import_lines(connection: Connection, name: str) -> Imported:
    """Put the lines of a source into the table `published`, inside a `Board.writing` transaction.

    Lines of it that say otherwise, or that it does not have, are put right. Raises `UsageError` for a source nobody
    ships.
    """
    source = source_of(name)
    lines = {line.key: line for line in shipped(source)}
    stored = {line.key: line for line in published_lines(connection) if line.source == name}
    known = {key for key, line in stored.items() if lines.get(key) == line}
    if len(known) < len(lines) or len(known) < len(stored):
        connection.execute(published.delete().where(published.c.source == name))
        connection.execute(published.insert(), [asdict(line) for line in lines.values()])
    return Imported(
        source=name,
        snapshot=source.snapshot,
        new=len(lines.keys() - stored.keys()),
        known=len(known),
        mended=len(stored) - len(known),
    )


def published_lines(connection: Connection) -> list[PublishedLine]:
    """All imported lines: by task and metric, best first."""
    lines = [PublishedLine(**columns) for columns in connection.execute(sa.select(published)).mappings()]
    return sorted(lines, key=_order)


def verify_published(connection: Connection) -> int:
    """Compare the imported lines with the files that this package brings; return how many there are.

    Raises `IntegrityError` naming the first difference. A source that was not imported is none.
    """
    stored = {line.key: line for line in published_lines(connection)}
    imported = {line.source for line in stored.values()}
    lines = [line for source in SOURCES.values() if source.name in imported for line in shipped(source)]
    _compare(stored, {line.key: line for line in lines})
    return len(stored)


def _order(line: PublishedLine) -> tuple[str, str, float, str, str, str]:
    best_first = -line.value if line.direction == "max" else line.value
    return (line.task, line.metric, best_first, line.system, line.source, line.snapshot)


def _lines(source: Source, row: Mapping[str, str]) -> Iterator[PublishedLine]:
    for metric in METRICS:
        value = row[f"{metric.task}.{metric.name}"]
        if value:
            yield PublishedLine(
                source=source.name,
                snapshot=source.snapshot,
                system=row["system"],
                task=metric.task,
                metric=metric.name,
                value=float(value),
                unit=metric.unit,
                direction=metric.direction,
                parameters=int(row["parameters"]) if row["parameters"] else None,
                stride=int(row["stride"]) if row["stride"] else None,
                submitter=row["submitter"],
                submitted=row["submitted"],
                track=row["track"],
                input=row["input"],
                corpus=row["corpus"],
                description=row["description"],
            )


_Lines = Mapping[tuple[str, str, str, str, str], PublishedLine]


def _compare(stored: _Lines, wanted: _Lines) -> None:
    for key in sorted(stored.keys() | wanted.keys()):
        found, meant = stored.get(key), wanted.get(key)
        if found == meant:
            continue
        if found is None:
            what = "is missing"
        elif meant is None:
            what = "is in no file that this superbench ships"
        else:
            was, is_now = asdict(meant), asdict(found)
            field = next(name for name in was if was[name] != is_now[name])
            what = f"says {field} = {is_now[field]!r}, but {was[field]!r} was published"
        source, snapshot, task, metric, system = key
        raise IntegrityError(
            f"the published line {system!r}, {task} {metric} (source {source!r}, {snapshot}) {what}",
            f"`superbench leaderboard import {source}` writes them as they were published",
        )
