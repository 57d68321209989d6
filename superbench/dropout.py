"""Dropout whose masks belong to utterances, not to the batch they happen to be cut into.

A mask is drawn from a seed that is a function of (seed, step, place in the effective batch), so that training on
micro-batches of any size sees the same masks, and so does a run that was resumed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from superbench.sampling import derived_seed


@dataclass
class _Draw:
    seed: int
    step: int
    first: int  # place in the effective batch of the first utterance at hand
    layer: int = 0  # calls so far: every layer has masks of its own


_drawing: ContextVar[_Draw | None] = ContextVar("drawing", default=None)


@contextlib.contextmanager
def drawn_for(seed: int, step: int, first: int) -> Iterator[None]:
    """Masks within are those of the utterances from place `first` of the effective batch of one step."""
    token = _drawing.set(_Draw(seed, step, first))
    try:
        yield
    finally:
        _drawing.reset(token)


class UtteranceDropout(nn.Module):
    """`nn.Dropout` on x_BTD with lengths_B: the same chances; outside `drawn_for`, the very same thing."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        drawing = _drawing.get()
        if not self.training or self.p == 0:
            return x
        if drawing is None:
            return F.dropout(x, self.p)
        kept = torch.zeros_like(x)
        generator = torch.Generator(x.device)
        for row, frames in enumerate(lengths.tolist()):
            place = drawing.first + row
            generator.manual_seed(derived_seed(drawing.seed, "dropout", drawing.step, place, drawing.layer))
            kept[row, :frames].bernoulli_(1 - self.p, generator=generator)
        drawing.layer += 1
        return x * kept / (1 - self.p)
