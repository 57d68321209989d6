"""The transformer encoder of the wav2vec 2.0 family: wav2vec 2.0, HuBERT, WavLM, data2vec, DinoSR, and their students.

Waves of any lengths go in together, and each comes out as if it had been alone (reference/UPSTREAMS.md, section 5.3):
waves are normalised one by one, group statistics and positional convolutions see no padding, attention looks at an
utterance's own frames, and everything past its end is cut. Where all are equally long there is nothing to mask.

Shapes: B utterances, N samples, T frames, C convolution channels, D width, H heads, P prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from superbench.errors import UsageError
from superbench_upstreams.convolution import STANDARD, ConvLayer, ConvolutionalFront, count_frames, hop
from superbench_upstreams.positions import ConvolutionalPositions, RelativePositions

SAMPLE_RATE = 16000  # Hz, of the whole family


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """What an encoder computes. The defaults are HuBERT base's."""

    conv_layers: tuple[ConvLayer, ...] = STANDARD
    conv_norm: Literal["group", "layer"] = "group"  # over time after the first layer, or of each frame after each
    conv_bias: bool = False
    feature_norm: bool = True  # layer normalisation of what the convolutions give
    projection: bool = True  # of it to the width; fairseq has none where it is as wide already
    width: int = 768
    layers: int = 12
    heads: int = 12
    ffn_width: int = 3072
    norm_first: bool = False  # pre-LN: normalise what goes into a block, and the last output
    position_taps: int = 128  # of each positional convolution
    position_groups: int = 16
    position_depth: int = 1  # positional convolutions; above 1 each has a normalisation without parameters
    relative_buckets: int = 0  # WavLM's gated relative position bias; 0: none
    relative_distance: int = 800  # frames, from which all distances share a bucket
    normalize: bool = False  # bring each wave to mean 0 and variance 1
    normalize_eps: float = 1e-5  # added to the variance: 1e-5 in fairseq, 1e-7 in transformers
    norm_eps: float = 1e-5  # of layer normalisation after the convolutions
    # In training only:
    input_dropout: float = 0.0  # of the projected features
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    layerdrop: float = 0.0
    conv_grad_scale: float = 1.0  # by which the gradient that enters the convolutions is multiplied

    @property
    def stride(self) -> int:
        """Samples between two frames."""
        return hop(self.conv_layers)

    def num_frames(self, samples: int) -> int:
        """Frames of `samples` samples; 0 where they are too few."""
        return count_frames(samples, self.conv_layers)


Tap = Literal["states", "ffn", "last"]
STATES: tuple[Tap, ...] = ("states",)


@dataclass(frozen=True, kw_only=True)
class Transformed:
    """What a transformer says of a batch; frames past an utterance's length mean nothing.

    States and feed-forward outputs that were not tapped are empty.
    """

    lengths: tuple[int, ...]  # frames of each utterance
    states: tuple[Tensor, ...]  # layers + 1 of [B, T, D]: the transformer's input, then what each layer gives
    ffn: tuple[Tensor, ...]  # layers of [B, T, D]: what the feed-forward block adds to the residual stream
    last: Tensor  # [B, T, D], the encoder's output: the last state, in a pre-LN encoder normalised

    @property
    def hidden(self) -> tuple[Tensor, ...]:
        """The states as s3prl lists them: the last one is the encoder's output."""
        return (*self.states[:-1], self.last)


@dataclass(frozen=True, kw_only=True)
class Encoded(Transformed):
    """What an encoder says of a batch of waves."""

    convolved: Tensor  # [B, T, C], as the convolutions give it
    projected: Tensor  # [B, T, D], before masks and positions


class Attention(nn.Module):
    """Multi-head attention; with WavLM's gate where it takes a bias of positions."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width, self.heads, self.dropout = config.width, config.heads, config.attention_dropout
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output = nn.Linear(width, width)
        self.gated = config.relative_buckets > 0
        if self.gated:
            self.gate = nn.Linear(width // self.heads, 8)
            self.gate_scale = nn.Parameter(torch.ones(1, self.heads, 1, 1))

    def forward(self, x_BTD: Tensor, mask: Tensor | None, bias_HTT: Tensor | None) -> Tensor:
        """Map [B, T, D] to [B, T, D]; `mask` [B, 1, 1, T] is True for the keys that are looked at."""
        batch, frames, width = x_BTD.shape

        def split(x: Tensor) -> Tensor:
            return x.reshape(batch, frames, self.heads, width // self.heads).transpose(1, 2)

        if bias_HTT is not None:
            added = self._gate(split(x_BTD)) * bias_HTT
            mask = added if mask is None else added.masked_fill(~mask, float("-inf"))
        attended = F.scaled_dot_product_attention(
            split(self.query(x_BTD)),
            split(self.key(x_BTD)),
            split(self.value(x_BTD)),
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        projected: Tensor = self.output(attended.transpose(1, 2).reshape(batch, frames, width))
        return projected

    def _gate(self, x_BHTd: Tensor) -> Tensor:
        """How much of the bias each query frame takes, [B, H, T, 1]."""
        gates: Tensor = torch.sigmoid(self.gate(x_BHTd).unflatten(-1, (2, 4)).sum(-1))
        a, b = gates[..., :1], gates[..., 1:]
        return a * (b * self.gate_scale - 1.0) + 2.0


class Layer(nn.Module):
    """One transformer layer, normalised before (pre-LN) or after (post-LN) its two blocks."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.attention = Attention(config)
        self.attention_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.ffn_in = nn.Linear(config.width, config.ffn_width)
        self.ffn_out = nn.Linear(config.ffn_width, config.width)
        self.ffn_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.activation_dropout = nn.Dropout(config.activation_dropout)

    def forward(self, x: Tensor, mask: Tensor | None, bias_HTT: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the layer's output and its feed-forward output before the residual, [B, T, D] each."""
        attended = self.attention(self.attention_norm(x) if self.norm_first else x, mask, bias_HTT)
        x = x + self.dropout(attended)
        if not self.norm_first:
            x = self.attention_norm(x)
        inner = F.gelu(self.ffn_in(self.ffn_norm(x) if self.norm_first else x))
        ffn = self.ffn_out(self.activation_dropout(inner))
        x = x + self.dropout(ffn)
        return (x if self.norm_first else self.ffn_norm(x)), ffn


class Encoder(nn.Module):
    """Convolutions, projection, positions, transformer. Fresh ones are random; `load_state_dict` fills them."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.conv_layers[-1][0]
        self.convolutions = ConvolutionalFront(config.conv_layers, norm=config.conv_norm, bias=config.conv_bias)
        self.feature_norm = nn.LayerNorm(channels, eps=config.norm_eps) if config.feature_norm else nn.Identity()
        self.projection = nn.Linear(channels, config.width) if config.projection else nn.Identity()
        self.input_dropout = nn.Dropout(config.input_dropout)
        self.mask_embedding = nn.Parameter(torch.rand(config.width))
        self.positions = ConvolutionalPositions(
            config.width, config.position_taps, config.position_groups, config.position_depth
        )
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        if config.relative_buckets:
            self.relative_positions = RelativePositions(config.relative_buckets, config.relative_distance, config.heads)

    def forward(
        self,
        waves: Sequence[Tensor],
        *,
        taps: tuple[Tap, ...] = STATES,
        layers: int | None = None,
        mask_BT: Tensor | None = None,
        prompts: Tensor | None = None,
    ) -> Encoded:
        """Encode waves [N], each of at least one frame.

        `layers`: how many of the transformer's to run, from the first; then `last` is what the last of them gives.
        `mask_BT`: True for frames that are replaced by the mask embedding. `prompts`: vectors put in front of the
        frames of every utterance, seen by attention and cut from what comes out: [P, D] at the transformer's input,
        or [layers, P, D], where each layer has its own.
        """
        convolved, lengths = self._convolve(waves)
        projected = self.projection(self.feature_norm(convolved))
        x = self.input_dropout(projected)
        if mask_BT is not None:
            x = torch.where(mask_BT[:, :, None], self.mask_embedding.to(x.dtype), x)
        x = self.position(x, lengths)
        states, ffn, last = self.transform(x, lengths, taps=taps, layers=layers, prompts=prompts)
        return Encoded(lengths=lengths, convolved=convolved, projected=projected, states=states, ffn=ffn, last=last)

    def _convolve(self, waves: Sequence[Tensor]) -> tuple[Tensor, tuple[int, ...]]:
        if self.config.normalize:
            waves = [F.layer_norm(w, w.shape, eps=self.config.normalize_eps) for w in waves]
        frames: list[Tensor] = self.convolutions(waves)
        x = nn.utils.rnn.pad_sequence(frames, batch_first=True)
        if self.config.conv_grad_scale == 0.0:
            x = x.detach()
        elif x.requires_grad and self.config.conv_grad_scale != 1.0:
            x.register_hook(lambda gradient: gradient * self.config.conv_grad_scale)  # type: ignore[no-untyped-call]
        return x, tuple(len(f) for f in frames)

    def position(self, x_BTD: Tensor, lengths: Sequence[int]) -> Tensor:
        """Add positions to frames [B, T, D]: the transformer's input."""
        padding_BT = padding(lengths, x_BTD.device)
        if padding_BT is not None:
            x_BTD = x_BTD.masked_fill(padding_BT[:, :, None], 0)
        x_BTD = x_BTD + self.positions(x_BTD, padding_BT)
        x: Tensor = self.dropout(x_BTD if self.config.norm_first else self.norm(x_BTD))
        return x

    def transform(
        self,
        x_BTD: Tensor,
        lengths: Sequence[int],
        *,
        taps: tuple[Tap, ...] = STATES,
        layers: int | None = None,
        prompts: Tensor | None = None,
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
        """Run the transformer on its input: states (this input first), feed-forward outputs, and the last output."""
        count = self.config.layers if layers is None else layers
        if not 0 <= count <= self.config.layers:
            raise UsageError(f"layers={layers}: this encoder has {self.config.layers}", "a number from 0 to that")
        ahead = 0 if prompts is None else prompts.shape[-2]
        padding_BT = padding([ahead + n for n in lengths], x_BTD.device)
        mask = None if padding_BT is None else ~padding_BT[:, None, None, :]
        x = x_BTD if prompts is None else _prompted(prompts if prompts.ndim == 2 else prompts[0], x_BTD)
        bias = self.relative_positions(x.shape[1]) if self.config.relative_buckets and count else None
        states, ffn = [x_BTD], []
        for i, layer in enumerate(self.layers[:count]):
            if prompts is not None and prompts.ndim == 3 and i:
                x = _prompted(prompts[i], x[:, ahead:])
            if self.training and self.config.layerdrop and torch.rand(()) < self.config.layerdrop:
                inner = torch.zeros_like(x)  # a dropped layer adds nothing
            else:
                x, inner = layer(x, mask, bias)
            if "states" in taps:
                states.append(x[:, ahead:])
            if "ffn" in taps:
                ffn.append(inner[:, ahead:])
        last = x[:, ahead:]
        if self.config.norm_first and count == self.config.layers:
            last = self.norm(last)
        return tuple(states) if "states" in taps else (), tuple(ffn), last

    def fix(self) -> Encoder:
        """Freeze all of it for good, and keep what can be computed of the weights beforehand; returns itself.

        From then on weights may change by `to` and `load_state_dict` only; a teacher that is averaged is not for this.
        """
        self.positions.fix()
        return self.requires_grad_(False)

    def freeze(self, *, front: bool = True, positions: bool = True, layers: Iterable[int] = ()) -> Encoder:
        """Keep parts from being trained: convolutions and projection, positions, layers from 0 on; returns itself.

        `norm` goes with the positions where it follows them (post-LN), else it stays trainable.
        """
        parts: list[nn.Module] = [self.layers[i] for i in layers]
        if front:
            parts += [self.convolutions, self.feature_norm, self.projection]
            self.mask_embedding.requires_grad_(False)
        if positions:
            parts += [self.positions, *([] if self.config.norm_first else [self.norm])]
        for part in parts:
            part.requires_grad_(False)
        return self


def padding(lengths: Sequence[int], device: torch.device) -> Tensor | None:
    """True past each utterance's end, [B, T]; None where all are equally long, and nothing is padded."""
    if len(set(lengths)) == 1:
        return None
    ends = torch.tensor(lengths, device=device)
    return torch.arange(max(lengths), device=device) >= ends[:, None]


def _prompted(prompts_PD: Tensor, x_BTD: Tensor) -> Tensor:
    return torch.cat([prompts_PD.to(x_BTD.dtype).expand(len(x_BTD), -1, -1), x_BTD], dim=1)
