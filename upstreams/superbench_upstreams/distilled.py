"""DistilHuBERT: a small encoder with a head for each layer of the teacher that it predicts.

Shapes: B utterances, T frames, D width, S heads, I width between the two maps of a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from superbench_upstreams.encoder import Encoded
from superbench_upstreams.frozen import Method, Output, linear

if TYPE_CHECKING:
    from superbench_upstreams.checkpoints import Checkpoint


class Distilled(Method):
    """An encoder with S heads, each of two linear maps with GELU between; `outputs.*` are their tensors.

    The first maps of all heads are one matrix [S I, D]; the second ones are `outputs.2.weight` [S, I, D] and
    `outputs.2.bias` [1, 1, S, D], or one plain linear map where S is 1.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        extras = checkpoint.extras
        self.heads = bool(extras)  # some students are read at their layers alone
        if not self.heads:
            return
        self.first = linear(extras, "outputs.0")
        if "outputs.2.weight" in extras:
            self.second = nn.Parameter(extras["outputs.2.weight"].clone())
            self.bias = nn.Parameter(extras["outputs.2.bias"].flatten(0, 2).clone())
        else:
            single = linear(extras, "outputs.2.layer")
            self.second = nn.Parameter(single.weight.detach().T[None].clone())
            self.bias = nn.Parameter(single.bias.detach()[None].clone())

    def predict(self, encoded: Encoded) -> tuple[Tensor, ...]:
        """What each head says of its layer of the teacher: S of [B, T, D]."""
        heads = len(self.second)
        inner: Tensor = F.gelu(self.first(encoded.last))
        inner = inner.view(*inner.shape[:-1], heads, -1)  # [B, T, S, I]
        return (torch.einsum("btsi,sid->btsd", inner, self.second) + self.bias).unbind(dim=2)

    def outputs(self) -> dict[str, Output]:
        """What the encoder has, and `predictions`, which "hidden" ends with."""
        layers = self._projected_first()
        if not self.heads:
            return {"hidden": layers, **self._inner()}
        widths = (self.second.shape[-1],) * len(self.second)
        return {
            "hidden": Output(
                widths=(*layers.widths, *widths),
                read=lambda e: (*layers.read(e), *self.predict(e)),
                needs=("states", "last"),
            ),
            **self._inner(),
            "layers": layers,
            "predictions": Output(widths=widths, read=self.predict, needs=("last",)),
        }
