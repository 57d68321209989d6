"""The learnable weighted sum over layers, and a head that reads it.

Source: SUPERB (Yang et al. 2021), s3prl `Featurizer._weighted_sum`: softmax over one weight per layer, all zero at the
start, so that training begins at the plain mean of the layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL_ROWS = 8  # candidates are summed for in multiples of so many, by the same kernel however many there are

Augment = Callable[[Tensor, Tensor], Tensor]


class WeightedSum(nn.Module):
    """Sum layers by softmaxed weights: [B, L, D] -> [B, D], or [B, L, T, D] -> [B, T, D]."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(layers))

    def forward(self, x: Tensor) -> Tensor:
        return self.together(self.weights[None], x)[0]

    def together(self, weights_CL: Tensor, x: Tensor, *, lanes: int = 1) -> Tensor:
        """The sums of x_BLD or x_BLTD by many sets of weights: [C, B, ...].

        With several lanes x holds the B utterances of lane 0, then those of lane 1, ...; the first C / lanes sets of
        weights are for those of lane 0, and so on. One product: it reads the features once where they lie layers first.
        """
        softmaxed_SRL = weights_CL.softmax(dim=1).view(lanes, -1, weights_CL.shape[1])
        sets = softmaxed_SRL.shape[1]
        if x.dim() == 3:
            softmaxed_SRL = F.pad(softmaxed_SRL, (0, 0, 0, -sets % KERNEL_ROWS))
        x_LBX, per_lane = x.transpose(0, 1), len(x) // lanes
        x_SLN = x_LBX.reshape(x_LBX.shape[0], lanes, -1).transpose(0, 1)
        summed_SRN = torch.bmm(softmaxed_SRL, x_SLN)[:, :sets]
        return summed_SRN.reshape(len(weights_CL), per_lane, *x_LBX.shape[2:])


class Probe(nn.Module):
    """What is trained on frozen features: the weighted sum, and a head on top of it."""

    def __init__(self, layers: int, head: nn.Module) -> None:
        super().__init__()
        self.featurizer = WeightedSum(layers)
        self.head = head

    @property
    def together(self) -> Callable[..., Tensor] | None:
        """`(parameters, x, lengths, *, lanes=1, augment=None)` -> logits of C candidates at once; None: one by one.

        `parameters` maps the names of parameters to tensors [C, ...]; x as in `WeightedSum.together`.
        """
        return self._together if callable(getattr(self.head, "together", None)) else None

    def _together(
        self,
        parameters: Mapping[str, Tensor],
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        lanes: int = 1,
        augment: Augment | None = None,
    ) -> Tensor:
        summed = self.featurizer.together(parameters["featurizer.weights"], x, lanes=lanes)
        if augment is not None and lengths is not None:
            summed = torch.stack([augment(one, lengths) for one in summed])
        of_head = {name.removeprefix("head."): p for name, p in parameters.items() if name.startswith("head.")}
        logits: Tensor = self.head.together(of_head, summed, lengths)  # type: ignore[operator]  # asked for above
        return logits

    def forward(self, x: Tensor, lengths: Tensor | None = None, augment: Augment | None = None) -> Tensor:
        summed = self.featurizer(x)
        if augment is not None and lengths is not None:
            summed = augment(summed, lengths)
        logits: Tensor = self.head(summed) if lengths is None else self.head(summed, lengths)
        return logits


def layer_weights(probe: Probe) -> tuple[float, ...]:
    """Softmax of the learnt weights: what each layer counts in the sum."""
    return tuple(probe.featurizer.weights.detach().softmax(dim=0).tolist())


def norm_corrected(weights: tuple[float, ...], norms: tuple[float, ...]) -> tuple[float, ...]:
    """Weights times each layer's mean feature norm, summing to one: a layer with large features counts for more."""
    products = [w * n for w, n in zip(weights, norms, strict=True)]
    total = sum(products)
    return tuple(p / total for p in products) if total > 0 else weights
