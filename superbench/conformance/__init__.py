"""Does an upstream keep its promises? Each is tried by itself, and the report says which are broken, and by how much.

`superbench check` prints the report; `superbench.testing.check_upstream` raises it in a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from superbench.conformance import batches, conduct, outputs
from superbench.conformance.facts import facts, misstatements
from superbench.conformance.report import FAILED, Finding, Report, described, judged, not_claimed, not_tried, told
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
    Promise("facts", facts),
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
        for finding in _tried(PROMISES, subject):
            findings.append(finding)
            bar.advance(note=finding.promise)
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
            measured=told(exc, subject.who),
            limit="no error",
            on=f"{len(subject.sounds)} sounds",
            mend=exc.hint if exc.__cause__ is None and exc.hint else "mend this error, then check again",
        )


def _tried(promises: Sequence[Promise], subject: Subject, of: str = "") -> Iterator[Finding]:
    """Try these promises one by one; only the facts, where those are of the wrong kind."""
    usable = _is_usable(subject)
    for promise in promises:
        named = replace(promise, name=of + promise.name)
        yield examine(named, subject) if usable or promise.measure is facts else not_tried(named.name)


def _is_usable(subject: Subject) -> bool:
    """Are its facts of the right kinds, so that the rest can be tried?"""
    try:
        with plugin_guard(subject.who):
            return not list(misstatements(subject))
    except SuperbenchError:
        return False


def _taps(subject: Subject) -> Iterator[Finding]:
    """The taps it names can be had, and each keeps the promises about what comes out."""
    taps: dict[str, Subject] = {}

    def named(subject: Subject) -> Finding:
        stated = getattr(subject.upstream, "taps", None)
        limit = "each can be had by tap(name)"
        if stated is None:
            return not_claimed("taps", limit=limit, why="taps is not stated: it has one output")
        texts = isinstance(stated, tuple | list) and all(isinstance(name, str) for name in stated)
        others = [name for name in stated if name != HIDDEN] if texts else []
        for name in others:
            taps[name] = replace(subject, upstream=subject.upstream.tap(name), is_tap=True)
        renamed = texts and HIDDEN in stated and _differs_from_layers(subject)
        shown = (", ".join(stated) or "none") if texts else f"taps is {described(stated)}"
        return judged(
            "taps",
            texts and len(taps) == len(others) and not renamed,
            measured=f"{shown}; tap 'hidden' differs from the layers" if renamed else shown,
            limit=limit,
            on="taps",
            mend=f"{HIDDEN!r} means the layers themselves: give this tap another name"
            if renamed
            else "taps is a tuple of distinct names, and tap(name) gives an upstream for each",
            taps=len(taps),
        )

    yield from _tried([Promise("taps", named)], subject)
    for name, tap in taps.items():
        yield from _tried(TAP_PROMISES, tap, of=f"tap {name}: ")


def _differs_from_layers(subject: Subject) -> bool:
    """Does tap("hidden") give something else than the layers? Superbench never asks it; it need not be answered."""
    try:
        with plugin_guard(subject.who):
            hidden = subject.upstream.tap(HIDDEN)
    except SuperbenchError:
        return False
    if hidden is None or hidden is subject.upstream:
        return hidden is None
    wave = subject.speech.wave
    tapped = replace(subject, upstream=hidden, is_tap=True).alone(wave)
    return outputs.largest_difference(subject.alone(wave), tapped) > 0
