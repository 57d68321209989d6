"""What an upstream states of itself: numbers of the right kind that fit together, and are what comes out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from superbench.conformance.report import Finding, counted, described, judged, listed
from superbench.conformance.subject import Subject, is_count
from superbench.errors import ContractError

STATED = ("sample_rate", "strides", "widths", "num_frames")
STRIDES_AHEAD = 50  # by so many strides longer a sound has so many frames more
MEND = "state sample_rate, strides, widths and num_frames as they are: one stride and one width per layer"
MEND_KIND = "codes are integers, with integers = True stated; features are floats, without it"
Wrong = tuple[str, str]  # what is wrong, and how to mend it


def facts(subject: Subject) -> Finding:
    """What it states of itself is there, fits together, and is what comes out."""
    misstated = list(misstatements(subject))
    wrong = misstated or list(_contradictions(subject))
    shown = "; ".join(what for what, _ in wrong)
    if not wrong:
        upstream = subject.upstream
        shown = (
            f"{upstream.sample_rate} Hz, {counted(len(upstream.strides), 'layer')}, "
            f"stride {listed(upstream.strides)}, width {listed(upstream.widths)}"
        )
    return judged(
        "facts",
        not wrong,
        measured=shown,
        limit="as stated",
        on="-" if misstated else subject.speech.name,
        mend="; ".join(dict.fromkeys(mend for _, mend in wrong)),
    )


def misstatements(subject: Subject) -> Iterator[Wrong]:
    """Facts that are not there or of the wrong kind, so that nothing else can be tried."""
    upstream = subject.upstream
    if upstream is None:
        by = "tap" if subject.is_tap else "load"
        yield f"{by} returned None", f"return the upstream at the end of {by}"
        return
    missing = [name for name in STATED if not hasattr(upstream, name)]
    if missing:
        yield f"it does not state {', '.join(missing)}", MEND
    wrong = list(_wrong_kinds(upstream, [name for name in STATED if name not in missing]))
    yield from wrong
    if not missing and not wrong:
        try:
            _ = subject.fewest
        except ContractError as exc:
            yield exc.message, exc.hint


def _wrong_kinds(upstream: Any, stated: Sequence[str]) -> Iterator[Wrong]:
    if not callable(upstream):
        yield f"{described(upstream)} cannot be called", "give it __call__(waves), which returns one Layers per wave"
    for name in stated:
        value = getattr(upstream, name)
        if name in ("strides", "widths"):
            if isinstance(value, str | bytes) or not isinstance(value, Sequence):
                yield f"{name} is {described(value)}", f"{name} must be a tuple with one number per layer"
            elif not all(is_count(v) for v in value):
                shown = ", ".join(described(v) for v in value)
                yield f"{name} is ({shown})", f"{name} must be whole numbers above 0, one per layer"
        elif name == "sample_rate" and not is_count(value):
            yield f"sample_rate is {described(value)}", "sample_rate must be a whole number of Hz above 0"
        elif name == "num_frames" and not callable(value):
            yield f"num_frames is {described(value)}", "num_frames must be a method: num_frames(samples)"
    for name in ("max_samples", "batch_samples"):
        value = getattr(upstream, name, None)
        if value is not None and not is_count(value):
            yield f"{name} is {described(value)}", f"{name} must be a whole number of samples above 0, or not stated"
    for name in ("exact_batches", "integers"):
        value = getattr(upstream, name, False)
        if not isinstance(value, bool):
            yield f"{name} is {described(value)}", f"{name} must be True or False, or not stated"
    if not callable(getattr(upstream, "astype", callable)):
        yield f"astype is {described(upstream.astype)}", "astype must be a method: astype(dtype), which returns self"


def _contradictions(subject: Subject) -> Iterator[Wrong]:
    """Facts that do not fit together, or are not what comes out."""
    strides, widths = len(subject.upstream.strides), len(subject.upstream.widths)
    if strides != widths or not strides:
        yield f"{strides} strides and {widths} widths are stated", MEND
        return
    frames = subject.frames(subject.fewest)
    if len(frames) != strides:
        yield f"{counted(strides, 'stride')} and {counted(len(frames), 'number')} of frames are stated", MEND
        return
    yield from _off_stride(subject)
    features = subject.alone(subject.speech.wave)
    if len(features) != strides:
        yield f"{counted(strides, 'layer')} stated, {len(features)} came out", f"{MEND}; layerdrop must be off"
    for layer, (tensor, width) in enumerate(zip(features, subject.upstream.widths, strict=False)):
        if tensor.ndim != 2 or tensor.shape[1] != width:
            yield f"layer {layer}: [T, {width}] stated, {list(tensor.shape)} came out", MEND
        if not is_of_kind(tensor, subject):
            kind = "integers" if subject.integers else "floats"
            yield f"layer {layer}: {kind} stated, {tensor.dtype} came out", MEND_KIND
    if subject.integers:
        yield from _below_zero(subject)


def is_of_kind(tensor: Tensor, subject: Subject) -> bool:
    """Are these integers where codes are stated, and floats where they are not?"""
    if subject.integers:
        return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
    return tensor.is_floating_point()


def _below_zero(subject: Subject) -> Iterator[Wrong]:
    """The least code of each layer that has negative ones."""
    least: dict[int, int] = {}
    for sound in subject.waves:
        for layer, tensor in enumerate(subject.alone(sound.wave)):
            if tensor.numel() and is_of_kind(tensor, subject):
                least[layer] = min(least.get(layer, 0), int(tensor.min()))
    for layer, code in least.items():
        if code < 0:
            yield f"layer {layer}: code {code} came out", "codes count from 0 up: -1 is no code"


def _off_stride(subject: Subject) -> Iterator[Wrong]:
    """A sound longer by some strides has as many frames more, give or take one."""
    for layer, stride in enumerate(subject.upstream.strides):
        steps = min(STRIDES_AHEAD, (subject.longest - subject.fewest) // stride)
        more = subject.frames(subject.fewest + steps * stride)[layer] - subject.frames(subject.fewest)[layer]
        if abs(more - steps) > 1:
            yield f"layer {layer}: stride {stride}, but {steps} strides more give {more} frames more", MEND
