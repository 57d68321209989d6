"""Promises about batches: a wave in a batch has the features it has alone, whoever is beside it and however padded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from superbench.conformance.report import Finding, judged, not_claimed
from superbench.conformance.sounds import lengthened
from superbench.conformance.subject import Features, Subject, name_of

MEMBERS = 6  # waves, whose lengths go up to
RATIO = 4  # times the shortest one
LONGEST_SECONDS = 6.0
LIMITS = {torch.float32: 2e-5, torch.float64: 1e-10}  # of the largest feature of the layer, at least 1
TIES = {torch.float32: 1e-3, torch.float64: 0.0}  # fraction of codes that rounding may turn over
ORDER = "results come in the order of the waves: put them back in that order where the batch was sorted"
MEND = "padding and neighbours must not leak: mask them in every layer, or do not state exact_batches"


@dataclass(frozen=True, kw_only=True)
class _Gap:
    """How far features in a batch are from those alone."""

    value: float = 0.0  # largest difference over the largest feature; of codes the fraction that differs
    shown: str = "0"
    mend: str = MEND


def batches(subject: Subject) -> Finding:
    """Waves in batches of several compositions and orders have the features they have alone."""
    waves = _members(subject)
    order = list(range(len(waves)))
    compositions = [order, order[::-1], order[1::2] + order[::2], order[::2], [2, 2], [1, 3, 1]]
    return _compared(subject, "batches", waves, compositions, on=f"6 batches, padded up to {RATIO} times")


def padding(subject: Subject) -> Finding:
    """The shortest wave has the features it has alone beside one four times as long."""
    waves = _members(subject)
    shortest = subject.fewest + 3 * max(subject.upstream.strides)
    if RATIO * shortest <= subject.longest:
        waves += [subject.wave(shortest), subject.wave(RATIO * shortest)]
    last = len(waves) - 1
    pairs = [[0, MEMBERS - 1], [MEMBERS - 1, 0], *([[last - 1, last], [last, last - 1]] if last >= MEMBERS else [])]
    return _compared(
        subject, "padding", waves, pairs, on=f"{len(pairs)} pairs, one wave {RATIO} times as long as the other"
    )


def _members(subject: Subject) -> list[Tensor]:
    """Waves of the sounds in turn, the shortest first, the last one four times as long."""
    longest = min(
        max(*(len(s.wave) for s in subject.waves), RATIO * subject.fewest),
        int(LONGEST_SECONDS * subject.upstream.sample_rate),
        subject.longest,
    )
    shortest = max(longest // RATIO, subject.fewest)
    lengths = [shortest + (longest - shortest) * i // (MEMBERS - 1) for i in range(MEMBERS)]
    return [lengthened(subject.waves[i % len(subject.waves)].wave, n) for i, n in enumerate(lengths)]


def _compared(
    subject: Subject, promise: str, waves: Sequence[Tensor], compositions: Sequence[Sequence[int]], *, on: str
) -> Finding:
    """Run each wave alone and in each batch, in float32 and, where it can, in float64."""
    allowed = TIES if subject.integers else LIMITS
    limit = ", ".join(f"{allowed[d]:g} in {name_of(d)}" for d in subject.dtypes)
    limit += " of the codes" if subject.integers else " of the largest feature"
    if not subject.exact_batches:
        return not_claimed(promise, limit=limit, why="exact_batches is not stated: waves come one at a time")
    gaps = {torch.float32: _gap(subject, waves, compositions, torch.float32)}
    if torch.float64 in subject.dtypes:
        with subject.computing_in(torch.float64):
            gaps[torch.float64] = _gap(subject, waves, compositions, torch.float64)
    return judged(
        promise,
        all(gap.value <= allowed[dtype] for dtype, gap in gaps.items()),
        measured="; ".join(f"{name_of(dtype)}: {gap.shown}" for dtype, gap in gaps.items()),
        limit=limit,
        on=on,
        mend="; ".join(dict.fromkeys(g.mend for dtype, g in gaps.items() if not g.value <= allowed[dtype])),
        **{name_of(dtype): gap.value for dtype, gap in gaps.items()},
    )


def _gap(subject: Subject, waves: Sequence[Tensor], compositions: Sequence[Sequence[int]], dtype: torch.dtype) -> _Gap:
    cast = [w.to(dtype) for w in waves]
    alone = {i: subject.alone(cast[i]) for i in sorted({i for members in compositions for i in members})}
    worst, differing, codes = _Gap(), 0, 0
    for members in compositions:
        results = subject.run([cast[i] for i in members])
        if _out_of_order(subject, results, [alone[i] for i in members], dtype):
            return _Gap(value=math.inf, shown=f"{len(members)} waves in, their results in another order", mend=ORDER)
        for place, (i, found) in enumerate(zip(members, results, strict=True)):
            where = f" (wave {place + 1} of {len(members)}, {len(cast[i])} samples)"
            if [t.shape for t in found] != [t.shape for t in alone[i]]:
                return _Gap(value=math.inf, shown=f"other shapes than alone{where}")
            if subject.integers:
                differing += sum(int((a != b).sum()) for a, b in zip(alone[i], found, strict=True))
                codes += sum(t.numel() for t in found)
            else:
                worst = max(worst, _distance(alone[i], found, where), key=lambda gap: gap.value)
    if subject.integers:
        return _Gap(value=differing / max(1, codes), shown=f"{differing} of {codes} codes differ")
    return worst


def _out_of_order(subject: Subject, results: Sequence[Features], alone: Sequence[Features], dtype: torch.dtype) -> bool:
    """Are the results of a batch those that its waves have alone, each once, but in another order?"""
    left, came = list(range(len(alone))), []
    for place, found in enumerate(results):
        candidates = sorted(left, key=lambda i: i != place)  # its own first
        match = next((i for i in candidates if _agree(subject, alone[i], found, dtype)), None)
        if match is None:
            return False
        left.remove(match)
        came.append(match)
    return came != sorted(came)


def _agree(subject: Subject, alone: Features, found: Features, dtype: torch.dtype) -> bool:
    if [t.shape for t in found] != [t.shape for t in alone]:
        return False
    if subject.integers:
        differing = sum(int((a != b).sum()) for a, b in zip(alone, found, strict=True))
        return differing <= TIES[dtype] * sum(t.numel() for t in found)
    return _distance(alone, found, "").value <= LIMITS[dtype]


def _distance(alone: Features, found: Features, where: str) -> _Gap:
    """The largest difference, over the largest feature of its layer (at least 1); what is not finite must be equal."""
    worst = _Gap()
    for layer, pair in enumerate(zip(alone, found, strict=True)):
        a, b = (t.double() if t.dtype == torch.bool else t for t in pair)  # truths have no difference
        finite = torch.isfinite(a) & torch.isfinite(b)
        same = (a == b) | (a.isnan() & b.isnan())
        if not bool((finite | same).all()):
            return _Gap(value=math.inf, shown=f"other values that are not finite{where}")
        difference = float((a - b).abs()[finite].max()) if bool(finite.any()) else 0.0
        largest = max(1.0, float(a[finite].abs().max()) if bool(finite.any()) else 0.0)
        if difference / largest > worst.value:
            shown = f"{difference / largest:.2g}, in layer {layer}{where}"
            worst = _Gap(value=difference / largest, shown=shown)
    return worst
