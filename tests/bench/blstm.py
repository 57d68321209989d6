"""The recurrent head: two padded LSTMs, one per direction, against torch's packed bidirectional LSTM on a CPU.

A is `pack_padded_sequence` and bidirectional LSTMs, as s3prl has it; B is `BlstmHead`. Both have the same
weights, no dropout, and must give the same logits on valid frames; the time is that of one forward and one backward
pass. The packed backward pass grows faster than the number of frames, so that the ratio grows with the length, and is
smaller for a wider head; it is about the sizes in the note, on a CPU. Of a GPU it says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from superbench_downstreams.blstm import BlstmHead

from .comparison import Comparison, alternate, seconds
from .s3prl_manner import PackedBlstm

CLASSES = 32  # of ASR


@dataclass(frozen=True, kw_only=True)
class Size:
    width: int  # of features, projection and each direction
    batch: int
    frames: tuple[int, ...]  # of the longest utterance, one comparison each; the shortest has half
    rounds: int


SMALL = Size(width=128, batch=16, frames=(150, 634), rounds=3)  # 3 s; 12.7 s, the mean of train-clean-100
FULL = Size(width=1024, batch=16, frames=(634,), rounds=3)  # ASR's own


def compare(size: Size) -> tuple[Comparison, ...]:
    """One comparison per length: forward and backward of two layers."""
    return tuple(_compare(size, frames) for frames in size.frames)


def _compare(size: Size, frames: int) -> Comparison:
    torch.manual_seed(0)
    head = BlstmHead(size.width, CLASSES, projector=size.width, hidden=size.width, layers=2, dropout=0.0)
    packed = PackedBlstm(head)
    x = torch.randn(size.batch, frames, size.width)
    lengths = torch.linspace(frames / 2, frames, size.batch).long()
    valid = torch.arange(frames)[None] < lengths[:, None]
    with torch.no_grad():
        torch.testing.assert_close(packed(x, lengths)[valid], head(x, lengths)[valid], rtol=1e-4, atol=1e-5)

    def both_ways(model: nn.Module) -> None:
        model.zero_grad(set_to_none=True)
        model(x, lengths)[valid].sum().backward()

    for model in (packed, head):
        both_ways(model)  # warm up
    taken = alternate(
        {"A": lambda: seconds(lambda: both_ways(packed)), "B": lambda: seconds(lambda: both_ways(head))}, size.rounds
    )
    return Comparison(
        benchmark="blstm",
        a="packed bidirectional LSTM",
        b="two padded LSTMs",
        unit="s",
        a_values=taken["A"],
        b_values=taken["B"],
        note=f"width {size.width}, batch {size.batch}, {frames} frames, forward + backward",
    )
