"""Promises about what comes out: facts, frame counts, the same again, finite, and of the right kind.

Shapes: a wave is [n]; its features are one tensor [T, D] per layer, or [T, K] where they are codes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from superbench.conformance.report import Finding, judged
from superbench.conformance.subject import Features, Subject, name_of
from superbench.errors import SuperbenchError
from superbench.features.extraction import plugin_guard

STATED = ("sample_rate", "strides", "widths", "num_frames")
QUIETEST = 1 / 32768  # one step of 16-bit sound
SMALLEST = 5e-324  # of all numbers above 0: stands for other bits of equal values, as of 0 and -0
STRIDES_AHEAD = 50  # by so many strides longer a sound has so many frames more


def facts(subject: Subject) -> Finding:
    """What it states of itself is there, fits together, and is what comes out."""
    missing = [name for name in STATED if not hasattr(subject.upstream, name)]
    wrong = [f"it does not state {', '.join(missing)}"] if missing else list(_contradictions(subject))
    shown = "; ".join(wrong)
    if not wrong:
        upstream = subject.upstream
        shown = (
            f"{upstream.sample_rate} Hz, {_counted(len(upstream.strides), 'layer')}, "
            f"stride {_listed(upstream.strides)}, width {_listed(upstream.widths)}"
        )
    return judged(
        "facts",
        not wrong,
        measured=shown,
        limit="as stated",
        on="-" if missing else subject.speech.name,
        mend="state sample_rate, strides, widths and num_frames as they are: one stride and one width per layer",
    )


def _contradictions(subject: Subject) -> Iterable[str]:
    upstream = subject.upstream
    numbers = {"sample_rate": (upstream.sample_rate,), "strides": upstream.strides, "widths": upstream.widths}
    for name, values in numbers.items():
        if any(isinstance(v, bool) or not hasattr(v, "__index__") or v < 1 for v in values):
            yield f"{name} {tuple(values)} are no whole numbers above 0"
            return
    strides, widths = len(upstream.strides), len(upstream.widths)
    if strides != widths or not strides:
        yield f"{strides} strides and {widths} widths are stated"
        return
    frames = subject.frames(subject.fewest)
    if len(frames) != strides:
        yield f"{_counted(strides, 'stride')} and {_counted(len(frames), 'number')} of frames are stated"
        return
    yield from _off_stride(subject)
    features = subject.alone(subject.speech.wave)
    if len(features) != strides:
        yield f"{_counted(strides, 'layer')} stated, {len(features)} came out"
    for layer, (tensor, width) in enumerate(zip(features, widths_of(subject), strict=False)):
        if tensor.ndim != 2 or tensor.shape[1] != width:
            yield f"layer {layer}: [T, {width}] stated, {list(tensor.shape)} came out"
        integral = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
        if integral != subject.integers or (not integral and not tensor.is_floating_point()):
            yield f"layer {layer}: {'integers' if subject.integers else 'floats'} stated, {tensor.dtype} came out"


def _off_stride(subject: Subject) -> Iterable[str]:
    """A sound longer by some strides has as many frames more, give or take one."""
    for layer, stride in enumerate(subject.upstream.strides):
        steps = min(STRIDES_AHEAD, (subject.longest - subject.fewest) // stride)
        more = subject.frames(subject.fewest + steps * stride)[layer] - subject.frames(subject.fewest)[layer]
        if abs(more - steps) > 1:
            yield f"layer {layer}: stride {stride}, but {steps} strides more give {more} frames more"


def widths_of(subject: Subject) -> Sequence[int]:
    """Feature width of each layer, as stated."""
    return tuple(subject.upstream.widths)


def frame_counts(subject: Subject) -> Finding:
    """`num_frames` says how many frames come out, for every length; 0 means that none do."""
    wrong: list[str] = []
    lengths, furthest = _lengths(subject), 0
    for samples in lengths:
        stated = subject.frames(samples)
        try:
            with plugin_guard(subject.who):
                came = tuple(t.shape[0] for t in subject.alone(subject.wave(samples)))
        except SuperbenchError as exc:
            if any(stated):
                wrong.append(f"{samples} samples: {_listed(stated)} stated, {type(exc.__cause__ or exc).__name__}")
                furthest = max(furthest, *stated)
            continue
        if came != stated:
            wrong.append(f"{samples} samples: {_listed(stated)} stated, {_listed(came)} came out")
            furthest = max(furthest, *(abs(a - b) for a, b in zip(stated, came, strict=False)), 0)
    if any(subject.frames(0)):
        wrong.insert(0, f"0 samples: {_listed(subject.frames(0))} stated")
    return judged(
        "frame counts",
        not wrong,
        measured=f"{len(wrong)} of {len(lengths)} lengths wrong" + (f", first {wrong[0]}" if wrong else ""),
        limit="0 lengths",
        on=f"{lengths[0]} to {lengths[-1]} samples",
        mend="num_frames must say exactly how many frames come out of a call, for each length: 0 where it refuses",
        lengths=len(lengths),
        wrong=len(wrong),
        furthest=furthest,
    )


def _lengths(subject: Subject) -> list[int]:
    """The shortest sound and its neighbours, every length over one stride and some, and long ones.

    A tap follows from the same frames: it gets the two ends of the stride.
    """
    fewest, stride, rate = subject.fewest, max(subject.upstream.strides), subject.upstream.sample_rate
    near = list(range(max(1, fewest - 2), fewest + stride + 18))
    if subject.is_tap:
        near = [n for n in near if min(abs(n - fewest), abs(n - fewest - stride)) <= 2]
    far = (rate // 2 + 1, rate - 1, rate, rate + 1, 2 * rate + 37, 4 * rate - stride, subject.longest)
    return sorted({n for n in (*near, *far) if n <= subject.longest})


def determinism(subject: Subject) -> Finding:
    """The same wave gives the same bits, whatever the random state is and whatever came before."""
    largest, place = 0.0, ""
    for sound, other in zip(subject.waves, (*subject.waves[1:], subject.waves[0]), strict=True):
        found = []
        for seed, wave in enumerate((sound.wave, sound.wave, other.wave, sound.wave)):
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            found.append(subject.alone(wave))
        for again in (found[1], found[3]):
            differs = largest_difference(found[0], again)
            if differs > largest:
                largest, place = differs, f" ({sound.name})"
    return judged(
        "determinism",
        largest == 0,
        measured=f"largest difference {largest:.3g}{place}",
        limit="0: the same bits",
        on=f"{_counted(len(subject.waves), 'sound')}, twice, and after another",
        mend="no dropout, layerdrop, noise or state that calls change: eval mode, and no random numbers",
        difference=largest,
    )


def finite(subject: Subject) -> Finding:
    """Features are finite, on silence and on the quietest and the loudest sound."""
    speech = subject.wave(min(max(subject.fewest, subject.upstream.sample_rate), subject.longest))
    peak = speech.abs().max()
    cases = {
        "digital silence": torch.zeros_like(speech),
        "the quietest sound": speech / peak * QUIETEST,
        "full-scale sound": speech / peak,
        "clipped sound": torch.where(speech < 0, -1.0, 1.0),
        **{sound.name: sound.wave for sound in subject.waves},
    }
    odd = {}
    for name, wave in cases.items():
        count = sum(int((~torch.isfinite(t)).sum()) for t in subject.alone(wave))
        if count:
            odd[name] = count
    shown = ", ".join(f"{count} values of {name}" for name, count in odd.items())
    return judged(
        "finite",
        not odd,
        measured=f"not finite: {shown or '0 values'}",
        limit="0 values",
        on=f"silence, quiet, full-scale and clipped sound, {_counted(len(subject.waves), 'sound')}",
        mend="no logarithm of 0 and no division by 0: add a floor before them",
        values=sum(odd.values()),
    )


def dtype_and_device(subject: Subject) -> Finding:
    """Features have the precision of the waves and are on the device that was asked for."""
    asked, wave = torch.device(subject.device), subject.speech.wave
    wrong, shown = 0, []
    for dtype in subject.dtypes:
        if dtype == torch.float32:
            (tensors,) = subject.call([wave])
        else:
            with subject.computing_in(dtype):
                (tensors,) = subject.call([wave.to(dtype)])
        kinds = sorted({f"{name_of(t.dtype)} on {t.device}" for t in tensors})
        shown.append(f"{name_of(dtype)} in, {' and '.join(kinds)} out")
        wrong += sum(not _fits(t, dtype, asked) for t in tensors)
    return judged(
        "dtype and device",
        not wrong,
        measured="; ".join(shown),
        limit=f"the same dtype, on {asked}",
        on=subject.speech.name,
        mend="compute in the dtype of the waves (after astype in that one) and leave the features on the device",
    )


def _fits(tensor: Tensor, dtype: torch.dtype, device: torch.device) -> bool:
    return tensor.dtype == dtype and tensor.device.type == device.type and device.index in (None, tensor.device.index)


def largest_difference(one: Features, other: Features) -> float:
    """The largest difference of two results; 0 if and only if all bits are the same, infinite where shapes are not."""
    if [t.shape for t in one] != [t.shape for t in other]:
        return math.inf
    largest = 0.0
    for a, b in zip(one, other, strict=True):
        if a.dtype != b.dtype:
            return math.inf
        if not torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8)):
            differs = float((a.double() - b.double()).abs().max())
            largest = max(largest, math.inf if math.isnan(differs) else differs or SMALLEST)
    return largest


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _listed(values: Iterable[Any]) -> str:
    """One value where all are the same, else all of them."""
    shown = [str(v) for v in values]
    return shown[0] if len(set(shown)) == 1 else "/".join(shown)
