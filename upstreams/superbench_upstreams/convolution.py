"""The convolutional front of the wav2vec 2.0 family: samples in, frames out, each utterance as if it were alone.

A strided convolution is a matrix product here: in a layout of [time, channels], `stride` frames are one row of a
view, so that a kernel is applied by one product per `stride` taps, without a copy of the input. Rows of a batch lie one
behind another in slots of whole hops; windows that reach into the next slot give frames that nobody reads.

Normalising the first layer over time needs the mean and variance of each of its channels over the whole utterance. They
follow from those of the samples under its taps, so that they are known before a frame is computed, and normalising is a
matter of other weights. On a CPU the layers then run piece by piece, while their frames are still in its caches.

Shapes: N samples, T frames, C channels, R pieces at once, M frames of all slots, O output channels, K taps.
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
    """One strided convolution over [time, channels], layer normalisation where asked for, and GELU.

    The weight has the shape of `nn.Conv1d` ([O, C, K]) and lies in memory as [O, K, C], as the product reads it.
    """

    def __init__(self, inputs: int, layer: ConvLayer, *, bias: bool, norm: bool) -> None:
        super().__init__()
        outputs, kernel, self.stride = layer
        self.weight = nn.Parameter(torch.empty(outputs, kernel, inputs).permute(0, 2, 1))
        nn.init.kaiming_normal_(self.weight)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.norm = nn.LayerNorm(outputs) if norm else nn.Identity()

    def forward(self, x_MC: Tensor) -> Tensor:
        """Map [M, C] to [M / stride, O]; the last frames of each slot, which saw the next one, mean nothing."""
        outputs, inputs, kernel = self.weight.shape
        weight = self.weight.permute(0, 2, 1).reshape(outputs, kernel * inputs)
        row = self.stride * inputs
        x = x_MC.to(weight.dtype).reshape(-1, row)
        y = F.linear(x[:, : kernel * inputs], weight[:, :row], self.bias)
        for ahead, first in enumerate(range(row, kernel * inputs, row), 1):
            taps = weight[:, first : first + row]
            y[:-ahead].addmm_(x[ahead:, : taps.shape[1]], taps.T)
        return F.gelu(self.norm(y))


class TimeNorm(nn.Module):
    """Group normalisation with one channel per group: of each channel over the frames of an utterance."""

    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def fold(self, weight_OK: Tensor, windows_TK: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [K, O] and biases [O] that give what `weight_OK` gives on these windows, normalised; in float64."""
        weight, windows = weight_OK.double(), windows_TK.double()
        mean_K = windows.mean(dim=0)
        centred = windows - mean_K
        covariance_KK = centred.T @ centred / len(windows)
        variance_O = ((weight @ covariance_KK) * weight).sum(dim=1)
        folded = weight * (self.weight * torch.rsqrt(variance_O + self.eps))[:, None]
        return folded.T, self.bias - folded @ mean_K


class FirstConvolution(nn.Module):
    """The convolution that reads the samples, the normalisation of its frames, and GELU."""

    def __init__(self, layer: ConvLayer, *, bias: bool, norm: Literal["group", "layer"]) -> None:
        super().__init__()
        outputs, self.kernel, self.stride = layer
        self.weight = nn.Parameter(torch.empty(outputs, 1, self.kernel))
        nn.init.kaiming_normal_(self.weight)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.norm = TimeNorm(outputs) if norm == "group" else nn.LayerNorm(outputs)

    def fit(self, wave_N: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [K, O] and biases [O] for the frames of one utterance; a bias says nothing where it is normalised."""
        weight_OK = self.weight[:, 0]
        if isinstance(self.norm, TimeNorm):
            folded_KO, bias_O = self.norm.fold(weight_OK, wave_N.unfold(0, self.kernel, self.stride))
            return folded_KO.to(weight_OK.dtype), bias_O.to(weight_OK.dtype)
        return weight_OK.T, weight_OK.new_zeros(len(weight_OK)) if self.bias is None else self.bias

    def forward(self, x_RN: Tensor, fitted: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Map slots [R, N] to [R x N / stride, O], each with the weights that were fitted to its utterance."""
        windows_RTK = F.pad(x_RN, (0, max(0, self.kernel - self.stride))).unfold(1, self.kernel, self.stride)
        weight_RKO = torch.stack([weight for weight, _ in fitted])
        bias_R1O = torch.stack([bias for _, bias in fitted])[:, None]
        y = torch.baddbmm(bias_R1O, windows_RTK.to(weight_RKO.dtype), weight_RKO).flatten(0, 1)
        return F.gelu(y if isinstance(self.norm, TimeNorm) else self.norm(y))


class ConvolutionalFront(nn.Module):
    """Waves to frames [T, C], without a difference between one wave and many."""

    piece = 100  # frames that a CPU computes at a time: two seconds of speech

    def __init__(self, layers: Sequence[ConvLayer], *, norm: Literal["group", "layer"], bias: bool) -> None:
        super().__init__()
        self.shape = tuple(layers)
        first, *others = layers
        inputs = [channels for channels, _, _ in layers]
        self.layers = nn.ModuleList(
            [
                FirstConvolution(first, bias=bias, norm=norm),
                *(Convolution(inputs[i], layer, bias=bias, norm=norm == "layer") for i, layer in enumerate(others)),
            ]
        )

    def forward(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Map waves [N] to frames [T, C]: piece by piece on a CPU, all at once elsewhere."""
        first = self.layers[0]
        assert isinstance(first, FirstConvolution)
        fitted = [first.fit(wave) for wave in waves]
        if waves[0].device.type != "cpu":
            return self._together(waves, fitted)
        return [
            torch.cat([self._together([piece], [one])[0] for piece in self._pieces(wave)])
            for wave, one in zip(waves, fitted, strict=True)
        ]

    def _pieces(self, wave: Tensor) -> list[Tensor]:
        """Stretches of a wave that give its frames, `piece` of them each; they overlap by what a window sees."""
        step, frames = hop(self.shape), count_frames(len(wave), self.shape)
        seen = len(wave) - (frames - 1) * step  # by the last frame, and past it
        starts = range(0, frames, self.piece)
        return [wave[t * step : (min(t + self.piece, frames) - 1) * step + seen] for t in starts]

    def _together(self, waves: Sequence[Tensor], fitted: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
        step = hop(self.shape)
        slot = -(-max(len(w) for w in waves) // step) * step
        x_MC = self.layers[0](torch.stack([F.pad(w, (0, slot - len(w))) for w in waves]), fitted)
        for layer in self.layers[1:]:
            x_MC = layer(x_MC)
        x_RTC = x_MC.view(len(waves), slot // step, -1)
        return [x[: count_frames(len(w), self.shape)] for x, w in zip(x_RTC, waves, strict=True)]
