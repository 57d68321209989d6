"""PR and ASR: the encoder at every step, as s3prl has it, against one pass and stored frames; and ASR's floor.

What is compared, and what the ratios mean, stands in `side_by_side`. The last line sets our recurrent head against the
products of matrices without which no LSTM of its size can be trained on a batch: its floor. ASR's official run is
worked out under `--full` alone: on shorter utterances s3prl's packed LSTM would look better than it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from superbench_downstreams.blstm import BlstmHead
from superbench_tasks.asr import TASK as ASR
from superbench_tasks.pr import TASK as PR

from . import encoder
from .comparison import Comparison, alternate, seconds
from .contest import CLASSES, Trial
from .side_by_side import compare_trial


@dataclass(frozen=True, kw_only=True)
class Size:
    trials: tuple[Trial, ...]
    batch: int  # of the floor
    frames: int
    hidden: int
    rounds: int


PR_SMALL = Trial(task=PR, shape=encoder.SMALL, recordings=16, seconds=2.0, batch=4, accumulate=2, steps=8, rounds=3)
ASR_SMALL = replace(PR_SMALL, task=ASR, batch=8, accumulate=1, steps=4, hidden=128)
PR_BASE = Trial(task=PR, shape=encoder.BASE, recordings=2, seconds=12.7, batch=2, steps=1, rounds=1, extrapolated=2)
ASR_BASE = replace(PR_BASE, task=ASR, recordings=16, batch=16)  # minutes a step in s3prl's manner
SMALL = Size(trials=(PR_SMALL, ASR_SMALL, PR_BASE), batch=16, frames=30, hidden=1024, rounds=3)
FULL = Size(
    trials=(
        replace(PR_BASE, recordings=16, batch=16, accumulate=2, rounds=3, extrapolated=2),
        replace(ASR_BASE, rounds=3),
    ),
    batch=16,
    frames=634,
    hidden=1024,
    rounds=3,
)


def compare(size: Size) -> tuple[Comparison, ...]:
    """Measured lines, what they mean for SUPERB's own runs, and the head against its floor."""
    return (*(line for trial in size.trials for line in compare_trial(trial)), _floor(size))


def _floor(size: Size) -> Comparison:
    """Forward and backward of ASR's head on a padded batch, against its LSTMs' products alone."""
    torch.manual_seed(0)
    head = BlstmHead(
        encoder.BASE.width, CLASSES["asr"], projector=size.hidden, hidden=size.hidden, layers=2, dropout=0.2
    )
    x_BTD = torch.randn(size.batch, size.frames, encoder.BASE.width)
    lengths_B = torch.full((size.batch,), size.frames)

    def both_ways() -> None:
        head.zero_grad(set_to_none=True)
        head(x_BTD, lengths_B).sum().backward()

    products = [
        product
        for inputs in (size.hidden, 2 * size.hidden)
        for _direction in range(2)
        for product in lstm_products(size.batch, size.frames, inputs, size.hidden)
    ]

    def multiply() -> None:
        for product in products:
            product()

    for work in (both_ways, multiply):
        work()  # warm up
    taken = alternate({"A": lambda: seconds(both_ways), "B": lambda: seconds(multiply)}, size.rounds)
    return Comparison(
        benchmark="asr, floor",
        a="our recurrent head",
        b="its LSTMs' products alone",
        unit="s",
        a_values=taken["A"],
        b_values=taken["B"],
        note=f"batch {size.batch}, {size.frames} frames, hidden {size.hidden}, forward + backward",
    )


def lstm_products(batch: int, frames: int, inputs: int, hidden: int) -> list[Callable[[], object]]:
    """The products of one LSTM over a batch, forward and backward. What a frame needs of the one before goes singly."""
    gates = 4 * hidden
    x, w_input, w_state = torch.randn(batch * frames, inputs), torch.randn(inputs, gates), torch.randn(hidden, gates)
    state, of_gates = torch.randn(batch, hidden), torch.randn(batch, gates)
    states, all_gates = torch.randn(batch * frames, hidden), torch.randn(batch * frames, gates)
    to_gates, to_state = torch.empty(batch, gates), torch.empty(batch, hidden)

    def at_every_frame(left: Tensor, right: Tensor, out: Tensor) -> None:
        for _ in range(frames):
            torch.mm(left, right, out=out)

    return [
        lambda: torch.mm(x, w_input),
        lambda: at_every_frame(state, w_state, to_gates),
        lambda: at_every_frame(of_gates, w_state.T, to_state),
        lambda: torch.mm(all_gates, w_input.T),  # gradient of the inputs
        lambda: torch.mm(x.T, all_gates),  # of their weights
        lambda: torch.mm(states.T, all_gates),  # of the state's
    ]
