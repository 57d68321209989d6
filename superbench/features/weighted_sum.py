"""The learnable weighted sum over layers, and a head that reads it.

Source: SUPERB (Yang et al. 2021), s3prl `Featurizer._weighted_sum`: softmax over one weight per layer, all zero at the
start, so that training begins at the plain mean of the layers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class WeightedSum(nn.Module):
    """Sum layers by softmaxed weights: [B, L, D] -> [B, D], or [B, L, T, D] -> [B, T, D]."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(layers))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("l,bl...->b...", self.weights.softmax(dim=0), x)


class Probe(nn.Module):
    """What is trained on frozen features: the weighted sum, and a head on top of it."""

    def __init__(self, layers: int, head: nn.Module) -> None:
        super().__init__()
        self.featurizer = WeightedSum(layers)
        self.head = head

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, augment: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> Tensor:
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
