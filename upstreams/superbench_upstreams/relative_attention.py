"""Attention by relative positions in the form of Transformer-XL (Dai et al. 2019, arXiv 1901.02860, section 3.3).

Shapes: B utterances, T frames, D width, H heads, d width of a head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from superbench_upstreams.encoder import Attention, EncoderConfig, Layer


class RelativeAttention(Attention):
    """Multi-head attention whose scores are (q + u) k + (q + v) p, with p a map of the distance (Transformer-XL)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.position = nn.Linear(config.width, config.width, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(config.width))  # u
        self.position_bias = nn.Parameter(torch.zeros(config.width))  # v

    def forward(self, x_BTD: Tensor, mask: Tensor | None, distances: Tensor | None) -> Tensor:
        """Map [B, T, D] to [B, T, D]; `distances` are the `sinusoids` [2 T, D]."""
        assert distances is not None
        batch, frames, width = x_BTD.shape

        def split(x: Tensor) -> Tensor:  # [..., T, D] to [..., H, T, d]
            return x.view(*x.shape[:-1], self.heads, width // self.heads).transpose(-3, -2)

        query = self.query(x_BTD)
        scores = split(query + self.position_bias) @ split(self.position(distances)).transpose(-1, -2)
        bias_BHTT = aligned(scores) / math.sqrt(width // self.heads)
        attended = F.scaled_dot_product_attention(
            split(query + self.content_bias),
            split(self.key(x_BTD)),
            split(self.value(x_BTD)),
            attn_mask=bias_BHTT if mask is None else bias_BHTT.masked_fill(~mask, float("-inf")),
            dropout_p=self.dropout if self.training else 0.0,
        )
        projected: Tensor = self.output(attended.transpose(1, 2).reshape(batch, frames, width))
        return projected


def sinusoids(frames: int, width: int) -> Tensor:
    """Sinusoids [2 T, D] (float64) of T - 1, T - 2, ... -T frames back: sines, then cosines."""
    back = torch.arange(frames - 1, -frames - 1, -1, dtype=torch.float64)
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000.0) / width))
    angles = back[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def aligned(scores: Tensor) -> Tensor:
    """From scores of queries by distance, [..., T, 2 T], a view of scores of queries by keys, [..., T, T].

    Column c stands for T - 1 - c frames back, so query i finds key j in column T - 1 - i + j: in a row of one less,
    every query's keys begin at the same place.
    """
    frames = scores.shape[-2]
    rows = scores.flatten(-2)[..., frames - 1 : -1]
    return rows.view(*rows.shape[:-1], frames, 2 * frames - 1)[..., :frames]


class RelativeLayer(Layer):
    """A transformer layer whose attention knows distances."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.attention = RelativeAttention(config)
