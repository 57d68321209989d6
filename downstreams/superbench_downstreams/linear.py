"""The linear head: `Linear -> [mean over time] -> Linear`, nothing non-linear between.

Source: s3prl ec8064b `downstream/model.py` UtteranceLevel with MeanPooling, FrameLevel. Because all of it is linear
before the mean, the mean over time of each layer is all that an utterance task needs to keep: same outputs, same
gradients.
"""

from __future__ import annotations

from torch import Tensor, nn


class LinearHead(nn.Module):
    """Map [..., width] to logits [..., classes]: one vector per utterance, or one per frame."""

    def __init__(self, width: int, classes: int, *, projector: int) -> None:
        super().__init__()
        self.projector = nn.Linear(width, projector)
        self.linear = nn.Linear(projector, classes)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        logits: Tensor = self.linear(self.projector(x))
        return logits
