"""Does an upstream keep its promises? Each is tried by itself, and the report says which are broken, and by how much.

`superbench check` prints the report; `superbench.testing.check_upstream` raises it in a test.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from superbench.conformance import batches, conduct, outputs
from superbench.conformance.report import FAILED, Finding, Report, judged, not_claimed
from superbench.conformance.sounds import Sound, made_sounds
from superbench.conformance.subject import Subject, stated_rate
from superbench.environment import versions
from superbench.errors import SuperbenchError, UsageError
from superbench.features.extraction import HIDDEN, LoadedUpstream, plugin_guard
from superbench.progress import Progress

__all__ = ["PROMISES", "TAP_PROMISES", "Finding", "Promise", "Report", "check"]


@dataclass(frozen=True)
class Promise:
    """One promise of the contract, and how it is tried."""

    name: str
    measure: Callable[[Subject], Finding]


PROMISES = (
    Promise("facts", outputs.facts),
    Promise("frame counts", outputs.frame_counts),
    Promise("determinism", outputs.determinism),
    Promise("batches", batches.batches),
    Promise("padding", batches.padding),
    Promise("odd input", conduct.odd_input),
    Promise("eval mode", conduct.eval_mode),
    Promise("no gradient", conduct.no_gradient),
    Promise("finite", outputs.finite),
    Promise("dtype and device", outputs.dtype_and_device),
    Promise("input untouched", conduct.input_untouched),
    Promise("global state", conduct.global_state),
    Promise("weights_sha", conduct.weights_sha),
)
TAP_PROMISES = tuple(p for p in PROMISES if p.name in ("facts", "frame counts", "determinism", "batches", "padding"))


def check(loaded: LoadedUpstream, sounds: Sequence[Sound] = (), progress: Progress | None = None) -> Report:
    """Try every promise of an upstream, on `sounds` or, where there are none, on made ones.

    Nothing that the upstream does ends the check: an error is the failure of the promise that was being tried.
    """
    heard = tuple(sounds) or made_sounds(stated_rate(loaded.upstream))
    subject = Subject(who=loaded.who, upstream=loaded.upstream, device=loaded.device, sounds=heard)
    if not any(bool(sound.wave.any()) for sound in heard):
        raise UsageError("all of the sounds are digital silence", "give a sound in which something is heard")
    findings = []
    with (progress or Progress()).stage("promises", len(PROMISES) + 1) as bar:
        for promise in PROMISES:
            findings.append(examine(promise, subject))
            bar.advance(note=promise.name)
        findings += _taps(subject)
        bar.advance(note="taps")
    return Report(
        upstream=loaded.name,
        brought_by=str(loaded.provenance),
        device=loaded.device,
        made=not sounds,
        sounds=tuple(sound.name for sound in heard),
        findings=tuple(findings),
        versions=versions(),
    )


def examine(promise: Promise, subject: Subject) -> Finding:
    """Try one promise; whatever is changed on the way is put back, and an error is a failure."""
    try:
        with plugin_guard(subject.who), torch.enable_grad():
            return replace(promise.measure(subject), promise=promise.name)
    except SuperbenchError as exc:
        return Finding(
            promise=promise.name,
            verdict=FAILED,
            measured=_told(exc),
            limit="no error",
            on=f"{len(subject.sounds)} sounds",
            mend=exc.hint if exc.__cause__ is None and exc.hint else "mend this error, then check again",
        )


def _told(error: SuperbenchError) -> str:
    """An error in a line: what was raised, and where."""
    cause = error.__cause__
    if cause is None or cause.__traceback__ is None:
        return f"{type(error).__name__}: {error.message}".partition("\n")[0]
    last = traceback.extract_tb(cause.__traceback__)[-1]
    said = str(cause).partition("\n")[0]
    return f"{type(cause).__name__}: {said} ({Path(last.filename).name}, line {last.lineno}, in {last.name})"


def _taps(subject: Subject) -> Iterator[Finding]:
    """The taps it names can be had, and each keeps the promises about what comes out."""
    taps: dict[str, Subject] = {}

    def named(subject: Subject) -> Finding:
        stated = getattr(subject.upstream, "taps", None)
        limit = "each can be had by tap(name)"
        if stated is None:
            return not_claimed("taps", limit=limit, why="taps is not stated: it has one output")
        texts = not isinstance(stated, str) and all(isinstance(name, str) for name in stated)
        others = [name for name in stated if name != HIDDEN] if texts else []
        for name in others:
            taps[name] = replace(subject, upstream=subject.upstream.tap(name), is_tap=True)
        return judged(
            "taps",
            texts and len(taps) == len(others),
            measured=(", ".join(stated) or "none") if texts else f"{stated!r:.60}",
            limit=limit,
            on="taps",
            mend="taps is a tuple of distinct names, and tap(name) gives an upstream for each",
            taps=len(taps),
        )

    yield examine(Promise("taps", named), subject)
    for name, tap in taps.items():
        for promise in TAP_PROMISES:
            yield examine(Promise(f"tap {name}: {promise.name}", promise.measure), tap)
