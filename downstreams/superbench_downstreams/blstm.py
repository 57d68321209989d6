"""The recurrent head: `Linear -> bidirectional LSTMs, dropout after each -> Linear`.

Source: s3prl ec8064b `downstream/asr/model.py` RNNs, without down-sampling, layer norm or projections between layers.

Each direction is its own LSTM over padded frames; the backward one reads every utterance flipped within its own length.
That is the arithmetic of a packed bidirectional LSTM without torch's slow packed path on CPUs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from superbench.dropout import UtteranceDropout


class BlstmHead(nn.Module):
    """Map frames x_BTD with lengths_B to logits_BTC; frames past an utterance's length are not to be read."""

    def __init__(self, width: int, classes: int, *, projector: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.projector = nn.Linear(width, projector)
        sizes = [projector, *[2 * hidden] * (layers - 1)]
        self.forwards = nn.ModuleList(nn.LSTM(size, hidden, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(nn.LSTM(size, hidden, batch_first=True) for size in sizes)
        self.dropout = UtteranceDropout(dropout)
        self.linear = nn.Linear(2 * hidden, classes)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x = self.projector(x)
        for ahead, back in zip(self.forwards, self.backwards, strict=True):
            ahead_BTH = ahead(x)[0]
            back_BTH = flip_within(back(flip_within(x, lengths))[0], lengths)
            x = self.dropout(torch.cat((ahead_BTH, back_BTH), dim=-1), lengths)
        logits: Tensor = self.linear(x)
        return logits


def flip_within(x_BTD: Tensor, lengths_B: Tensor) -> Tensor:
    """Reverse each utterance within its own length; padding stays where it is."""
    time = torch.arange(x_BTD.shape[1], device=x_BTD.device)[None]
    last = lengths_B.to(x_BTD.device)[:, None] - 1
    index = torch.where(time <= last, last - time, time)
    return x_BTD.gather(1, index[..., None].expand_as(x_BTD))
