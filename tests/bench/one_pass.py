"""KS and SID: the encoder at every step, as s3prl has it, against one pass and time means.

What is compared, and what the ratios mean, stands in `side_by_side`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from superbench_tasks.ks import TASK as KS
from superbench_tasks.sid import TASK as SID

from . import encoder
from .comparison import Comparison
from .contest import Trial
from .side_by_side import compare_trial


@dataclass(frozen=True, kw_only=True)
class Size:
    trials: tuple[Trial, ...]
    rounds: int  # of the measured lines


KS_SMALL = Trial(task=KS, shape=encoder.SMALL, recordings=80, seconds=0.5, batch=8, steps=25, rounds=3, all_runs=True)
SID_SMALL = replace(KS_SMALL, task=SID, recordings=40, seconds=1.0, batch=4, accumulate=2, steps=12, all_runs=False)
KS_BASE = Trial(task=KS, shape=encoder.BASE, recordings=8, seconds=1.0, batch=8, steps=2, rounds=1, extrapolated=200)
SID_BASE = replace(KS_BASE, task=SID, recordings=2, seconds=8.0, batch=2, steps=1)
SMALL = Size(trials=(KS_SMALL, SID_SMALL, KS_BASE, SID_BASE), rounds=3)
FULL = Size(
    trials=(
        replace(KS_SMALL, shape=encoder.BASE, recordings=16, seconds=1.0, steps=10, all_runs=False),
        replace(KS_BASE, recordings=32, batch=32, steps=2, rounds=3),
        replace(SID_BASE, recordings=8, batch=8, accumulate=4, steps=1, rounds=3),
    ),
    rounds=3,
)


def compare(size: Size) -> tuple[Comparison, ...]:
    """Measured lines, then what they mean for SUPERB's own runs."""
    return tuple(line for trial in size.trials for line in compare_trial(trial))
