"""What SUPERB's own runs hear, and what the measured costs of a moment mean for them.

Sizes: `TaskProtocol` of each task, and s3prl@ec8064b. VoxCeleb1's recordings last 8.2 s in the mean, LibriSpeech's of
train-clean-100 12.7 s. Left out on both sides: evaluations on dev and test, which would all add encoder passes to
s3prl's manner and none to ours; corpora that are read, decoded and checked; and the disk, where frames are larger than
memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from superbench_tasks import asr, ks, pr, sid

HOUR = 3600.0
LIBRISPEECH = (100.6 + 5.4 + 5.4) * HOUR  # train-clean-100, dev-clean, test-clean
UTTERANCE = 12.7  # seconds, of train-clean-100
FRAMES = 50  # per second, of a HuBERT


@dataclass(frozen=True, kw_only=True)
class Official:
    """One task as SUPERB runs it."""

    steps: int
    heard: float  # seconds of sound in one step of s3prl's manner
    corpus: float  # seconds of sound that ours hears once


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What was measured. Seconds of work; of s3prl's manner with one learning rate."""

    theirs: float  # per second of sound heard: encoder, head and optimiser
    encode: float  # per second of sound, into the store
    step: float  # ours, all learning rates together


OFFICIAL = {
    "ks": Official(
        steps=ks.PROTOCOL.steps,
        heard=ks.PROTOCOL.batch * 1.0,
        corpus=51_088 + 6_798 + 3_081,  # recordings of a second: train, dev and test, counted by s3prl's split
    ),
    "sid": Official(
        steps=sid.PROTOCOL.steps,
        heard=sid.PROTOCOL.batch * sid.PROTOCOL.accumulate * sid.PROTOCOL.crop.seconds,
        corpus=138_361 * sid.PROTOCOL.crop.bank * sid.PROTOCOL.crop.seconds + (6_904 + 8_251) * 8.2,
    ),
    "pr": Official(
        steps=pr.PROTOCOL.steps, heard=pr.PROTOCOL.batch * pr.PROTOCOL.accumulate * UTTERANCE, corpus=LIBRISPEECH
    ),
    "asr": Official(steps=asr.PROTOCOL.steps, heard=asr.PROTOCOL.batch * UTTERANCE, corpus=LIBRISPEECH),
}


def hours(official: Official, costs: Costs, rates: int) -> tuple[float, float, str]:
    """Hours of s3prl's manner and of ours for so many learning rates, and the arithmetic in words."""
    theirs = rates * official.steps * official.heard * costs.theirs / HOUR
    once = official.corpus * costs.encode / HOUR
    training = official.steps * costs.step / HOUR
    said = (
        f"A: {rates} x {official.steps} steps x {official.heard:.0f} s heard x {costs.theirs:.3g} = {theirs:.4g} h; "
        f"B: {official.corpus / HOUR:.1f} h heard once x {costs.encode:.3g} + {official.steps} steps x "
        f"{costs.step:.3g} s = {once:.3g} + {training:.3g} h"
    )
    return theirs, once + training, said


def hours_streamed(official: Official, costs: Costs) -> tuple[float, str]:
    """Hours of ours where no frames are kept, and every step's sounds are heard again, once for all learning rates."""
    step = official.heard * costs.encode + costs.step
    said = f"B: {official.steps} steps x ({official.heard:.0f} s heard x {costs.encode:.3g} + {costs.step:.3g} s)"
    return official.steps * step / HOUR, said
