"""Where a frame stands: positional convolutions of the wav2vec 2.0 family, and WavLM's relative position bias.

Shapes: B utterances, T frames, D width, G groups, F frequencies, H heads.
"""

from __future__ import annotations

import abc
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupedConvolution(nn.Module, abc.ABC):
    """A grouped convolution over time, of an odd or even number of taps, that keeps the number of frames.

    Output frame t sees frames t - taps // 2 to t - taps // 2 + taps - 1, zeros beyond the ends. Once its weights are
    fixed it is computed in the frequency domain, block by block (overlap-save), which for 128 taps takes a fifth of the
    time; rounding is then that of the loudest frame of a block.
    """

    bias: nn.Parameter

    def __init__(self, width: int, taps: int, groups: int) -> None:
        super().__init__()
        self.taps, self.groups = taps, groups
        self.block = 1 << (2 * taps - 1).bit_length()  # length of a transform: half of it or more is output
        self.bias = nn.Parameter(torch.zeros(width))
        self.fixed = False
        self._spectrum: Tensor | None = None

    @abc.abstractmethod
    def kernel(self) -> Tensor:
        """The weight [D, D / G, taps]."""

    def fix(self) -> None:
        """Promise that the weights stay what they are but for `to` and `load_state_dict`: their spectrum is kept."""
        self.fixed, self._spectrum = True, None

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Map [B, T, D] to [B, T, D]."""
        if self.fixed:
            return self._by_spectrum(x_BTD)
        x = F.pad(x_BTD.transpose(1, 2), (self.taps // 2, self.taps - 1 - self.taps // 2))
        return F.conv1d(x, self.kernel(), self.bias, groups=self.groups).transpose(1, 2)

    def _by_spectrum(self, x_BTD: Tensor) -> Tensor:
        batch, frames, width = x_BTD.shape
        wide = torch.promote_types(x_BTD.dtype, torch.float32)
        fresh = self.block - self.taps + 1  # frames of output per transform
        blocks = -(-frames // fresh)
        before = self.taps // 2
        x = F.pad(x_BTD.to(wide), (0, 0, before, blocks * fresh + self.taps - 1 - before - frames))
        windows = x.unfold(1, self.block, fresh)  # [B, blocks, D, block]
        spectrum = torch.fft.rfft(windows, dim=-1).view(batch * blocks, self.groups, width // self.groups, -1)
        spectrum = torch.matmul(spectrum.permute(3, 1, 0, 2), self._weights(wide))  # [F, G, B blocks, D / G]
        y = torch.fft.irfft(spectrum.permute(2, 1, 3, 0), n=self.block, dim=-1)[..., :fresh]
        y = y.reshape(batch, blocks, width, fresh).transpose(2, 3).reshape(batch, blocks * fresh, width)
        found: Tensor = (y[:, :frames] + self.bias).to(x_BTD.dtype)
        return found

    def _weights(self, wide: torch.dtype) -> Tensor:
        """The kernel's spectrum [F, G, in, out]."""
        if self._spectrum is None:
            with torch.inference_mode(False), torch.no_grad():
                kernel = self.kernel().to(wide)
                kernel = kernel.view(self.groups, -1, kernel.shape[1], self.taps)
                spectrum = torch.fft.rfft(kernel, n=self.block, dim=-1).conj()  # conjugate: it is a correlation
                self._spectrum = spectrum.permute(3, 0, 2, 1).contiguous()
        return self._spectrum

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._spectrum = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, *arguments: Any, **more: Any) -> None:
        self._spectrum = None
        super()._load_from_state_dict(*arguments, **more)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_spectrum": None}


class WeightNormed(GroupedConvolution):
    """The kernel as direction and size, normalised over all but the taps: `weight_g` [1, 1, taps], `weight_v`."""

    def __init__(self, width: int, taps: int, groups: int) -> None:
        super().__init__(width, taps, groups)
        self.weight_v = nn.Parameter(torch.randn(width, width // groups, taps) * math.sqrt(4 / (taps * width)))
        self.weight_g = nn.Parameter(self.weight_v.detach().norm(dim=(0, 1), keepdim=True))

    def kernel(self) -> Tensor:
        length: Tensor = self.weight_v.norm(dim=(0, 1), keepdim=True)
        return self.weight_v * (self.weight_g / length)


class Plain(GroupedConvolution):
    """The kernel as it is."""

    def __init__(self, width: int, taps: int, groups: int) -> None:
        super().__init__(width, taps, groups)
        self.weight = nn.Parameter(torch.randn(width, width // groups, taps) * math.sqrt(4 / (taps * width)))

    def kernel(self) -> Tensor:
        return self.weight


class ConvolutionalPositions(nn.Module):
    """What is added to the frames so that the transformer knows their order.

    One weight-normed convolution (depth 1), or `depth` plain ones, each followed by layer normalisation without
    parameters (data2vec, DinoSR, USAD); `taps` is of each. Frames past an utterance's end are zero before each.
    """

    def __init__(self, width: int, taps: int, groups: int, depth: int) -> None:
        super().__init__()
        self.depth = depth
        kind = WeightNormed if depth == 1 else Plain
        self.blocks = nn.ModuleList(kind(width, taps, groups) for _ in range(depth))

    def fix(self) -> None:
        """Promise that the weights stay what they are, see `GroupedConvolution.fix`."""
        for block in self.blocks:
            assert isinstance(block, GroupedConvolution)
            block.fix()

    def forward(self, x_BTD: Tensor, padding_BT: Tensor | None) -> Tensor:
        """Map [B, T, D] to [B, T, D]; `padding_BT` is True past an utterance's end, None where all are equally long."""
        for block in self.blocks:
            if padding_BT is not None:
                x_BTD = x_BTD.masked_fill(padding_BT[:, :, None], 0)
            x_BTD = block(x_BTD)
            if self.depth > 1:
                x_BTD = F.layer_norm(x_BTD, x_BTD.shape[-1:])
            x_BTD = F.gelu(x_BTD)
        return x_BTD


class RelativePositions(nn.Module):
    """WavLM's bias of attention by distance: one number per bucket of distances and head."""

    def __init__(self, buckets: int, distance: int, heads: int) -> None:
        super().__init__()
        self.buckets, self.distance = buckets, distance
        self.weight = nn.Parameter(torch.randn(buckets, heads) * 0.02)

    def forward(self, frames: int) -> Tensor:
        """The bias [H, T, T] of query frames (rows) and key frames (columns)."""
        places = torch.arange(frames, device=self.weight.device)
        return self.weight[self._bucket(places[None, :] - places[:, None])].permute(2, 0, 1)

    def _bucket(self, apart: Tensor) -> Tensor:
        """T5's buckets: half for each direction; near distances exact, far ones by their logarithm in float32."""
        half = self.buckets // 2
        exact = half // 2
        near = apart.abs()
        far = torch.log(near.float().clamp(min=1) / exact) / math.log(self.distance / exact) * (half - exact)
        bucket = torch.where(near < exact, near, (exact + far.long()).clamp(max=half - 1))
        return bucket + half * (apart > 0)
