"""The convolutional front of the wav2vec 2.0 family: samples in, frames out, each utterance as if it were alone.

A strided convolution is a matrix product here: in a layout of [time, channels], `stride` frames are one row of a
view, so that a kernel is applied by one product per `stride` taps, without a copy of the input. Rows of a batch lie one
behind another in slots of whole hops; windows that reach into the next slot give frames that nobody reads.

Shapes: N samples, T frames, C channels, R utterances at once, M frames of all slots, O output channels, K taps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ConvLayer = tuple[int, int, int]  # channels, kernel, stride

STANDARD: tuple[ConvLayer, ...] = ((512, 10, 5), *((512, 3, 2),) * 4, *((512, 2, 2),) * 2)  # hop 320, 400 samples seen


def count_frames(samples: int, layers: Sequence[ConvLayer]) -> int:
    """Frames of `samples` samples: every window must lie inside the sound; 0 where none does."""
    for _, kernel, stride in layers:
        samples = (samples - kernel) // stride + 1 if samples >= kernel else 0
    return samples


def hop(layers: Sequence[ConvLayer]) -> int:
    """Samples between two frames."""
    return math.prod(stride for _, _, stride in layers)


class Convolution(nn.Module):
    """One strided convolution over [time, channels], its normalisation, and GELU.

    The weight has the shape of `nn.Conv1d` ([O, C, K]) and lies in memory as [O, K, C], as the product reads it.
    """

    def __init__(self, inputs: int, layer: ConvLayer, *, bias: bool, norm: Literal["group", "layer", "none"]) -> None:
        super().__init__()
        outputs, kernel, self.stride = layer
        self.weight = nn.Parameter(torch.empty(outputs, kernel, inputs).permute(0, 2, 1))
        nn.init.kaiming_normal_(self.weight)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.norm = nn.Identity() if norm == "none" else TimeNorm(outputs) if norm == "group" else nn.LayerNorm(outputs)

    def forward(self, x_MC: Tensor, valid_R1T: Tensor) -> Tensor:
        """Map [M, C] to [M / stride, O]; the last frames of each slot, which saw the next one, mean nothing."""
        outputs, inputs, kernel = self.weight.shape
        x_MC = x_MC.to(self.weight.dtype)
        weight = self.weight.permute(0, 2, 1).reshape(outputs, kernel * inputs)
        row = self.stride * inputs
        x = x_MC.reshape(-1, row)
        y = F.linear(x[:, : kernel * inputs], weight[:, :row], self.bias)
        for ahead, first in enumerate(range(row, kernel * inputs, row), 1):
            taps = weight[:, first : first + row]
            y[:-ahead].addmm_(x[ahead:, : taps.shape[1]], taps.T)
        return F.gelu(self.norm(y, valid_R1T) if isinstance(self.norm, TimeNorm) else self.norm(y))


class TimeNorm(nn.Module):
    """Group normalisation with one channel per group: over the valid frames of each utterance, and these alone."""

    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x_MC: Tensor, valid_R1T: Tensor) -> Tensor:
        """Normalise [M, C], M = R x T; `valid_R1T` is 1 where a frame counts and 0 elsewhere."""
        rows, _, frames = valid_R1T.shape
        wide = torch.promote_types(x_MC.dtype, torch.float32)
        x_RTC = x_MC.view(rows, frames, -1).to(wide)
        share_R1T = valid_R1T.to(wide) / valid_R1T.to(wide).sum(dim=-1, keepdim=True)
        centred = x_RTC - share_R1T @ x_RTC
        scale = torch.rsqrt(share_R1T @ centred.square() + self.eps) * self.weight
        return torch.addcmul(self.bias.to(wide), centred, scale).to(x_MC.dtype).view_as(x_MC)


class ConvolutionalFront(nn.Module):
    """Waves to frames [T, C], without a difference between one wave and many."""

    def __init__(self, layers: Sequence[ConvLayer], *, norm: Literal["group", "layer"], bias: bool) -> None:
        super().__init__()
        self.shape = tuple(layers)
        inputs = [1, *(channels for channels, _, _ in layers)]
        self.layers = nn.ModuleList(
            Convolution(inputs[i], layer, bias=bias, norm="none" if norm == "group" and i else norm)
            for i, layer in enumerate(layers)
        )

    def forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Map waves [N] to frames [T, C]: one at a time on a CPU, where its caches are small, all at once elsewhere."""
        if waves[0].device.type == "cpu":
            return [frames for wave in waves for frames in self._together([wave])]
        return self._together(waves)

    def _together(self, waves: Sequence[Tensor]) -> list[Tensor]:
        _, kernel, stride = self.shape[0]
        step = hop(self.shape)
        slot = -(-max(len(w) for w in waves) // step) * step
        x = torch.stack([F.pad(w, (0, slot - len(w))) for w in waves])
        first = torch.tensor([(len(w) - kernel) // stride + 1 for w in waves], device=x.device)
        valid_R1T = (torch.arange(slot // stride, device=x.device) < first[:, None])[:, None].to(x.dtype)
        x_MC = x.view(-1, 1)
        for layer in self.layers:
            x_MC = layer(x_MC, valid_R1T)
        x_RTC = x_MC.view(len(waves), slot // step, -1)
        return [x[: count_frames(len(w), self.shape)] for x, w in zip(x_RTC, waves, strict=True)]
