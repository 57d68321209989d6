"""What a check found: one finding per promise, and the table of them all. No torch is loaded here."""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from superbench.errors import ContractError, SuperbenchError

SCHEMA = 1  # of `Report.as_json`
COLUMNS = ("promise", "", "measured", "limit", "on")
FAILED: Final = "FAILED"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One promise, whether it holds, and by how much."""

    promise: str
    verdict: Literal["ok", "FAILED", "not claimed", "not tried"]
    measured: str
    limit: str
    on: str  # what it was measured on
    mend: str = ""  # how to mend it, where it is broken
    figures: Mapping[str, float] = field(default_factory=dict)  # the numbers of `measured`, by name


def judged(promise: str, holds: bool, *, measured: str, limit: str, on: str, mend: str, **figures: float) -> Finding:
    """Return a finding that is ok where the promise holds, and says how to mend it where not."""
    return Finding(
        promise=promise,
        verdict="ok" if holds else FAILED,
        measured=measured,
        limit=limit,
        on=on,
        mend="" if holds else mend,
        figures=figures,
    )


def not_claimed(promise: str, *, limit: str, why: str) -> Finding:
    """Return the finding of a promise that an upstream need not make, and did not."""
    return Finding(promise=promise, verdict="not claimed", measured=why, limit=limit, on="-")


def not_tried(promise: str) -> Finding:
    """Return the finding of a promise that cannot be tried until the facts are right."""
    return Finding(promise=promise, verdict="not tried", measured="the facts must be right first", limit="-", on="-")


def told(error: SuperbenchError, who: str) -> str:
    """Say in a line what was raised, and where; not that it was `who`, whose table it is."""
    cause = error.__cause__
    if cause is None or cause.__traceback__ is None:
        return f"{type(error).__name__}: {error.message.removeprefix(f'{who}: ')}".partition("\n")[0]
    last = traceback.extract_tb(cause.__traceback__)[-1]
    said = str(cause).partition("\n")[0]
    return f"{type(cause).__name__}: {said} ({Path(last.filename).name}, line {last.lineno}, in {last.name})"


def described(value: Any) -> str:
    """Say what a value of any kind is, on one line: `160 (int)`, or `a Tensor`."""
    if value is None or isinstance(value, bool):
        return str(value)
    kind = type(value).__name__
    article = "an" if kind[0] in "AEIOUaeiou" else "a"
    return f"{value!r:.40} ({kind})" if isinstance(value, int | float | str | bytes) else f"{article} {kind}"


def counted(number: int, noun: str) -> str:
    """A number of things in words: `1 layer`, `2 layers`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(values: Iterable[Any]) -> str:
    """One value where all are the same, else all of them."""
    shown = [str(v) for v in values]
    return shown[0] if len(set(shown)) == 1 else "/".join(shown)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything a check found about one upstream."""

    upstream: str  # as typed, with its options
    brought_by: str
    device: str
    made: bool  # were the sounds made, or are they recordings?
    sounds: tuple[str, ...]
    findings: tuple[Finding, ...]
    versions: Mapping[str, str]

    @property
    def broken(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.verdict == FAILED)

    @property
    def caption(self) -> str:
        """The title of the table: whose promises, and which sounds they were tried on."""
        kind = "made, speech-like sounds" if self.made else "recordings"
        return f"{self.upstream} ({self.brought_by}) on {self.device}, with {len(self.sounds)} {kind}"

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """One row per promise, under `COLUMNS`."""
        return tuple((f.promise, f.verdict, f.measured, f.limit, f.on) for f in self.findings)

    @property
    def mends(self) -> tuple[str, ...]:
        """One sentence per broken promise: how to mend it."""
        return tuple(f"{f.promise}: {f.mend}" for f in self.broken)

    def __str__(self) -> str:
        """The table as plain text, with the way to mend what is broken below it."""
        return "\n".join(
            [self.caption, "", *_aligned((COLUMNS, *self.rows)), *(("", *self.mends) if self.broken else ())]
        )

    def raise_if_broken(self) -> None:
        """Raise `ContractError` where a promise is broken: exit code 4."""
        if self.broken:
            names = ", ".join(f.promise for f in self.broken)
            raise ContractError(
                f"upstream {self.upstream!r} of {self.brought_by} breaks {len(self.broken)} of its promises: {names}",
                "the table on stdout says by how much, and below it how to mend them",
            )

    def as_json(self) -> dict[str, Any]:
        """The same for programs; a figure that is not finite is null."""
        return {
            "schema": SCHEMA,
            "upstream": self.upstream,
            "brought_by": self.brought_by,
            "device": self.device,
            "holds": not self.broken,
            "sounds": {"kind": "made" if self.made else "recorded", "names": list(self.sounds)},
            "findings": [
                {
                    "promise": f.promise,
                    "verdict": f.verdict,
                    "measured": f.measured,
                    "limit": f.limit,
                    "on": f.on,
                    "mend": f.mend,
                    "figures": {name: v if math.isfinite(v) else None for name, v in f.figures.items()},
                }
                for f in self.findings
            ],
            "versions": dict(self.versions),
        }


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
