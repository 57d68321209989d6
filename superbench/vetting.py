"""Is an official tree the whole official corpus? Its parts are held against the sizes that its publishers state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from superbench.contracts import SPLITS, Corpus, PartSize, Utterance
from superbench.plugin import TaskProtocol

HOURS_TOLERANCE = 0.01  # of the official hours, which are published to a tenth


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One part of a corpus (split or fold) beside its official size."""

    part: str
    utterances: int  # recordings: a bank of crops is one
    speakers: int
    hours: float
    official: PartSize
    differences: tuple[str, ...]  # in words; none where it agrees


@dataclass(frozen=True, kw_only=True)
class Vetting:
    """What came of it.

    `complete`: every part has its official size. `partial`: no part has more than that, and one has less. `wrong`: a
    part has more, or the right number of recordings with other speakers, hours or classes. `unknown`: nothing to hold
    it against: a CSV manifest, or a task that states no sizes.
    """

    verdict: Literal["complete", "partial", "wrong", "unknown"]
    findings: tuple[Finding, ...] = ()

    def __str__(self) -> str:
        differences = "; ".join(d for f in self.findings for d in f.differences)
        return f"{self.verdict}: {differences}" if differences else self.verdict


def vet(corpus: Corpus, protocol: TaskProtocol) -> Vetting:
    """Compare an official tree with the official sizes, part by part."""
    if not corpus.official or not protocol.sizes:
        return Vetting(verdict="unknown")
    parts: dict[str, list[tuple[Utterance, ...]]] = {}
    for item in corpus.items(range(len(corpus.utterances))):
        members = tuple(corpus.utterances[i] for i in item)
        parts.setdefault(members[0].fold or members[0].split, []).append(members)
    findings = tuple(_finding(size, parts.get(size.part, [])) for size in protocol.sizes)
    if not any(f.differences for f in findings):
        return Vetting(verdict="complete", findings=findings)
    more = any(f.utterances > f.official.utterances for f in findings)
    less = any(f.utterances < f.official.utterances for f in findings)
    return Vetting(verdict="partial" if less and not more else "wrong", findings=findings)


def _finding(size: PartSize, recordings: list[tuple[Utterance, ...]]) -> Finding:
    whole = [r[0] for r in recordings]
    found = Finding(
        part=size.part,
        utterances=len(whole),
        speakers=len({u.speaker for u in whole if u.speaker}),
        hours=sum(u.seconds for u in whole if not u.bank) / 3600,
        official=size,
        differences=(),
    )
    return replace(found, differences=tuple(_differences(found, whole)))


def _differences(found: Finding, whole: list[Utterance]) -> Iterator[str]:
    official = found.official
    part = found.part if found.part in SPLITS else f"fold {found.part}"
    if found.utterances != official.utterances:
        yield f"{part} has {found.utterances:,} recordings, officially {official.utterances:,}"
        return  # the rest follows from that
    if official.speakers is not None and found.speakers != official.speakers:
        yield f"{part} has {found.speakers:,} speakers, officially {official.speakers:,}"
    if official.hours is not None and abs(found.hours - official.hours) > HOURS_TOLERANCE * official.hours:
        yield f"{part} has {found.hours:.2f} hours, officially {official.hours:g}"
    classes = Counter(u.reference for u in whole)
    for name, number in official.classes:
        if classes[name] != number:
            yield f"{part} has {classes[name]:,} of {name!r}, officially {number:,}"
