"""Promises about what comes out: frame counts, the same again, finite, and of the right kind.

Shapes: a wave is [n]; its features are one tensor [T, D] per layer, or [T, K] where they are codes.
"""

from __future__ import annotations

import math
import random

import numpy as np
import torch
from torch import Tensor

from superbench.conformance.facts import MEND_KIND, is_of_kind
from superbench.conformance.report import Finding, counted, described, judged, listed, told
from superbench.conformance.subject import Features, Subject, name_of
from superbench.errors import ContractError, SuperbenchError
from superbench.features.extraction import plugin_guard

QUIETEST = 1 / 32768  # one step of 16-bit sound
SMALLEST = 5e-324  # of all numbers above 0: stands for other bits of equal values, as of 0 and -0
COUNTS = "num_frames must say exactly how many frames come out of a call, for each length: 0 where it refuses"
RAISED = "mend the error of these calls, or have num_frames say 0 for a length that is refused"
LAYERS = "return one tensor per stride from each call: is layerdrop off, and is the model in eval mode?"


def frame_counts(subject: Subject) -> Finding:
    """`num_frames` says how many frames come out, for every length; 0 means that none do."""
    wrong: list[str] = []
    mends: set[str] = set()
    lengths, furthest = _lengths(subject), 0
    for samples in lengths:
        stated = subject.frames(samples)
        try:
            with plugin_guard(subject.who):
                came = tuple(t.shape[0] if t.ndim else 0 for t in subject.alone(subject.wave(samples)))
        except SuperbenchError as exc:
            if any(stated):
                wrong.append(f"{samples} samples: {listed(stated)} stated, the call raised {told(exc, subject.who)}")
                mends.add((isinstance(exc, ContractError) and exc.hint) or RAISED)
                furthest = max(furthest, *stated)
            continue
        if len(came) != len(stated):
            wrong.append(f"{samples} samples: {counted(len(stated), 'layer')} stated, {len(came)} came out")
            mends.add(LAYERS)
        elif came != stated:
            wrong.append(f"{samples} samples: {listed(stated)} stated, {listed(came)} came out")
            mends.add(COUNTS)
            furthest = max(furthest, *(abs(a - b) for a, b in zip(stated, came, strict=False)), 0)
    if any(subject.frames(0)):
        wrong.insert(0, f"0 samples: {listed(subject.frames(0))} stated")
        mends.add(COUNTS)
    return judged(
        "frame counts",
        not wrong,
        measured=f"{len(wrong)} of {len(lengths)} lengths wrong" + (f", first {wrong[0]}" if wrong else ""),
        limit="0 lengths",
        on=f"{lengths[0]} to {lengths[-1]} samples",
        mend="; ".join(sorted(mends)),
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
        on=f"{counted(len(subject.waves), 'sound')}, twice, and after another",
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
        on=f"silence, quiet, full-scale and clipped sound, {counted(len(subject.waves), 'sound')}",
        mend=MEND_KIND if subject.integers else "no logarithm of 0 and no division by 0: add a floor before them",
        values=sum(odd.values()),
    )


def dtype_and_device(subject: Subject) -> Finding:
    """Features have the precision of the waves and are on the device that was asked for."""
    asked, wave = torch.device(subject.device), subject.speech.wave
    mends, shown = [], []
    given = subject.upstream
    for dtype in subject.dtypes:
        if dtype == torch.float32:
            (tensors,) = subject.call([wave])
        else:
            with subject.computing_in(dtype) as given:
                (tensors,) = subject.call([wave.to(dtype)])
        kinds = sorted({f"{name_of(t.dtype)} on {t.device}" for t in tensors})
        shown.append(f"{name_of(dtype)} in, {' and '.join(kinds)} out")
        unfit = [t for t in tensors if not _fits(t, dtype, asked, subject)]
        if any(not is_of_kind(t, subject) for t in unfit):
            mends.append(MEND_KIND)
        elif unfit:
            mends.append(
                "compute in the dtype of the waves (after astype in that one) and leave the features on the device"
            )
    if given is not subject.upstream:
        shown.append(f"astype returned {described(given)}, not itself")
        mends.append("end astype with return self")
    return judged(
        "dtype and device",
        not mends,
        measured="; ".join(shown),
        limit=f"{'integers' if subject.integers else 'the same dtype'}, on {asked}",
        on=subject.speech.name,
        mend="; ".join(dict.fromkeys(mends)),
    )


def _fits(tensor: Tensor, dtype: torch.dtype, device: torch.device, subject: Subject) -> bool:
    right = is_of_kind(tensor, subject) if subject.integers else tensor.dtype == dtype
    return right and tensor.device.type == device.type and device.index in (None, tensor.device.index)


def largest_difference(one: Features, other: Features) -> float:
    """The largest difference of two results; 0 if and only if all bits are the same, infinite where shapes are not."""
    if [t.shape for t in one] != [t.shape for t in other]:
        return math.inf
    largest = 0.0
    for a, b in zip(one, other, strict=True):
        if a.dtype != b.dtype:
            return math.inf
        if not torch.equal(a.reshape(-1).contiguous().view(torch.uint8), b.reshape(-1).contiguous().view(torch.uint8)):
            differs = float((a.double() - b.double()).abs().max())
            largest = max(largest, math.inf if math.isnan(differs) else differs or SMALLEST)
    return largest
