"""The linear head: `Linear -> [mean over time] -> Linear`, nothing non-linear between.

Source: s3prl ec8064b `downstream/model.py` UtteranceLevel with MeanPooling, FrameLevel. Because all of it is linear
before the mean, the mean over time of each layer is all that an utterance task needs to keep: same outputs, same
gradients. And because two linear maps are one, of time means their product comes first wherever that is less work: same
outputs, same gradients, but for rounding.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class LinearHead(nn.Module):
    """Map [..., width] to logits [..., classes]: one vector per utterance, or one per frame."""

    def __init__(self, width: int, classes: int, *, projector: int) -> None:
        super().__init__()
        self.projector = nn.Linear(width, projector)
        self.linear = nn.Linear(projector, classes)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        logits: Tensor = self.together({name: p[None] for name, p in self.named_parameters()}, x[None], lengths)[0]
        return logits

    def together(self, parameters: Mapping[str, Tensor], x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map [C, ..., width] to logits [C, ..., classes] by C sets of parameters, each name's [C, ...]."""
        first_CPD, first_CP = parameters["projector.weight"], parameters["projector.bias"]
        last_CKP, last_CK = parameters["linear.weight"], parameters["linear.bias"]
        x_CND = x.flatten(1, -2)
        rows, (classes, projector, width) = x_CND.shape[1], (*last_CKP.shape[1:], x.shape[-1])
        fewer = rows * projector * (width + classes) > classes * width * (projector + rows)
        if fewer and x.dim() == 3:  # of frames it is the less exact one in float32: sums run over thousands of rows
            both_CKD = torch.bmm(last_CKP, first_CPD)
            # not as a product, whose kernel would depend on how many candidates there are
            bias_CK = last_CK + (last_CKP * first_CP[:, None]).sum(dim=2)
            logits = torch.baddbmm(bias_CK[:, None], x_CND, both_CKD.transpose(1, 2))
        else:
            projected = torch.baddbmm(first_CP[:, None], x_CND, first_CPD.transpose(1, 2))
            logits = torch.baddbmm(last_CK[:, None], projected, last_CKP.transpose(1, 2))
        return logits.view(*x.shape[:-1], classes)
