"""The convolutional front of the wav2vec 2.0 family: samples in, frames out, each utterance as if it were alone.

Normalising the first layer over time needs the mean and variance of each of its channels over the whole utterance, and
no padding in them. They follow from those of the samples under its taps, so that they are known before a frame is
computed, and normalising is a matter of other weights. On a CPU the layers then run piece by piece, while the frames of
a piece are still in its caches.

Shapes: N samples, T frames, C channels, R pieces at once, O output channels, K taps.
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


class TimeNorm(nn.Module):
    """Group normalisation with one channel per group: of each channel over the frames of an utterance."""

    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def fold(self, weight_OK: Tensor, windows_TK: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [O, K] and biases [O] that give what `weight_OK` gives on these windows, normalised; in float64."""
        weight, windows = weight_OK.double(), windows_TK.double()
        mean_K = windows.mean(dim=0)
        centred = windows - mean_K
        covariance_KK = centred.T @ centred / len(windows)
        variance_O = ((weight @ covariance_KK) * weight).sum(dim=1)
        folded = weight * (self.weight * torch.rsqrt(variance_O + self.eps))[:, None]
        return folded, self.bias - folded @ mean_K


class FirstConvolution(nn.Module):
    """The convolution that reads the samples, the normalisation of its frames, and GELU."""

    def __init__(self, layer: ConvLayer, *, bias: bool, norm: Literal["group", "layer"]) -> None:
        super().__init__()
        outputs, self.kernel, self.stride = layer
        self.weight = nn.Parameter(torch.empty(outputs, 1, self.kernel))
        _draw(self.weight)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.norm = TimeNorm(outputs) if norm == "group" else nn.LayerNorm(outputs)

    def fit(self, wave_N: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [O, K] and biases [O] for one utterance; where it is normalised over time, its own bias cancels."""
        weight_OK = self.weight[:, 0]
        if isinstance(self.norm, TimeNorm):
            folded_OK, bias_O = self.norm.fold(weight_OK, wave_N.unfold(0, self.kernel, self.stride))
            return folded_OK.to(weight_OK.dtype), bias_O.to(weight_OK.dtype)
        return weight_OK, weight_OK.new_zeros(len(weight_OK)) if self.bias is None else self.bias

    def forward(self, x_RN: Tensor, fitted: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Map samples [R, N] to [R, O, T], each row with what was fitted to its utterance."""
        weight_ROK = torch.stack([weight for weight, _ in fitted])
        bias_RO1 = torch.stack([bias for _, bias in fitted])[..., None]
        windows_RTK = x_RN.to(weight_ROK.dtype).unfold(1, self.kernel, self.stride)
        y_ROT = torch.baddbmm(bias_RO1, weight_ROK, windows_RTK.mT)
        return F.gelu(y_ROT if isinstance(self.norm, TimeNorm) else self.norm(y_ROT.mT).mT)


class Convolution(nn.Conv1d):
    """A further convolution, layer normalisation of each frame where asked for, and GELU."""

    def __init__(self, inputs: int, layer: ConvLayer, *, bias: bool, norm: bool) -> None:
        outputs, kernel, stride = layer
        super().__init__(inputs, outputs, kernel, stride, bias=bias)
        _draw(self.weight)
        self.norm = nn.LayerNorm(outputs) if norm else None

    def forward(self, x_RCT: Tensor) -> Tensor:
        """Map [R, C, T] to [R, O, T], of fewer frames."""
        y_ROT = super().forward(x_RCT.to(self.weight.dtype))
        return F.gelu(y_ROT if self.norm is None else self.norm(y_ROT.mT).mT)


def _draw(weight: Tensor) -> None:
    if not weight.is_meta:  # where nobody asks for numbers, drawing them would load torch's compiler
        nn.init.kaiming_normal_(weight)


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
        if isinstance(first.norm, TimeNorm):  # which takes an offset away; it would cost the digits of a quiet sound
            waves = [wave - wave.mean(dtype=torch.float64).to(wave.dtype) for wave in waves]
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
        x = self.layers[0](nn.utils.rnn.pad_sequence(list(waves), batch_first=True), fitted)
        for layer in self.layers[1:]:
            x = layer(x)
        return [row[:, : count_frames(len(w), self.shape)].T for row, w in zip(x, waves, strict=True)]
