"""A plugin: the linear head of the utterance tasks, reading frames where `pooled_linear` reads their mean over time.

Its outputs are the same. It is what a benchmark sets against features that are pooled before they are stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from superbench.plugin import DownstreamSpec, NoOptions, hookimpl

if TYPE_CHECKING:
    from torch import Tensor, nn


def build(_options: NoOptions, width: int, classes: int) -> nn.Module:
    """Build `Linear -> mean over an utterance's own frames -> Linear`, in the order in which s3prl computes it."""
    import torch
    from torch import nn

    class MeanOfFrames(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.projector = nn.Linear(width, 256)
            self.linear = nn.Linear(256, classes)

        def forward(self, x_BTD: Tensor, lengths_B: Tensor) -> Tensor:
            y_BTP = self.projector(x_BTD)
            valid_BT = torch.arange(y_BTP.shape[1])[None] < lengths_B[:, None]
            mean_BP = (y_BTP * valid_BT[..., None]).sum(dim=1) / lengths_B[:, None]
            logits_BC: Tensor = self.linear(mean_BP)
            return logits_BC

    return MeanOfFrames()


@hookimpl
def superbench_downstreams() -> Iterable[DownstreamSpec]:
    """Yield the head."""
    yield DownstreamSpec(name="mean_of_frames", build=build, reads="frames", summary="pooled_linear, reading frames")
