"""The encoder of USAD (Chang et al. 2025, arXiv 2506.18843): Kaldi mel features, half their rate, a transformer.

This is OUR encoder, for students trained here. The module that holds the published one (`usad_modules.py`) was not to
be had, so no published weights are known to fit, and none are claimed to. From the published configurations, model
files and paper (reference/UPSTREAMS.md, "USAD") come: the mel features, to the letter; pieces of 3000 mel frames; 50
frames per second; widths, layers and heads; convolutional positions of depth 5, 95 taps in all, in 16 groups; attention
by relative positions; feed-forward blocks of four times the width. Ours is the choice of

- the halving: two 3 x 3 convolutions of 64 channels over time and frequency, strides (2, 2) and (1, 2), each with ReLU,
  and a linear map of 64 channels x 32 bands = 2048 to D, then layer normalisation. This is what fits the published
  parameter counts, 13 D^2 per layer and 2048 D; the published name "framewise subsampling" may mean otherwise;
- Transformer-XL's form of relative attention (Dai et al. 2019): sinusoids of the distance, mapped by D x D;
- normalisation before each block, and of the last output (pre-LN; `norm_first=False` is post-LN), GELU, biases.

Waves of any lengths go in together, and each comes out as if it had been alone: mel features are computed one by one,
everything that looks sideways sees zeros past an utterance's end, and attention its own frames only.

Shapes: B utterances, R pieces of them, N samples, M mel frames, K mel bands, T frames, D width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from superbench.errors import DataError, UsageError
from superbench.torchaudio_loader import load as load_torchaudio
from superbench_upstreams.encoder import STATES, EncoderConfig, Tap, Transformed, padding
from superbench_upstreams.positions import ConvolutionalPositions
from superbench_upstreams.relative_attention import RelativeLayer, sinusoids

SAMPLE_RATE = 16000  # Hz
WINDOW, SHIFT = 400, 160  # samples of a mel frame: 25 ms every 10 ms
MEL_BANDS = 128
MEL_MEAN, MEL_SCALE = -4.268, 2 * 4.569  # SSAST's, of AudioSet and LibriSpeech
PIECE = 3000  # mel frames (30 s): a longer sound is encoded in pieces that know nothing of each other
HALVING = 2  # mel frames of a frame
STRIDE = HALVING * SHIFT


@dataclass(frozen=True, kw_only=True)
class UsadConfig:
    """What an encoder computes. Small, base and large are the published sizes; dropouts work in training only."""

    width: int
    layers: int
    heads: int
    ffn_expansion: int = 4  # times the width
    channels: int = 64  # of the convolutions that halve the rate
    position_depth: int = 5
    position_width: int = 95  # taps of all positional convolutions together
    position_groups: int = 16
    norm_first: bool = True
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.1
    layerdrop: float = 0.0

    def __post_init__(self) -> None:
        """Refuse sizes that are not positive or do not divide each other."""
        sizes = ("width", "layers", "heads", "ffn_expansion", "channels", "position_width", "position_groups")
        wrong = [f"{name} is {getattr(self, name)}" for name in sizes if getattr(self, name) < 1]
        if self.position_depth < 2:  # one alone would be another kind: weight-normed, as in wav2vec 2.0
            wrong.append(f"position_depth is {self.position_depth}, less than 2")
        if not wrong:
            parts = {"heads": self.heads, "position_groups": self.position_groups, "2": 2}
            wrong += [f"width {self.width} is no multiple of {name}" for name, n in parts.items() if self.width % n]
        rates = ("dropout", "attention_dropout", "activation_dropout", "layerdrop")
        wrong += [f"{name} is {getattr(self, name)}" for name in rates if not 0 <= getattr(self, name) < 1]
        if wrong:
            raise UsageError(f"USAD encoder: {'; '.join(wrong)}", "see UsadConfig.small() for sizes that go together")

    @classmethod
    def small(cls) -> UsadConfig:
        """25 million parameters."""
        return cls(width=384, layers=12, heads=6)

    @classmethod
    def base(cls) -> UsadConfig:
        """97 million parameters."""
        return cls(width=768, layers=12, heads=12)

    @classmethod
    def large(cls) -> UsadConfig:
        """336 million parameters."""
        return cls(width=1024, layers=24, heads=16)

    @property
    def position_taps(self) -> int:
        """Taps of one positional convolution."""
        return max(3, self.position_width // self.position_depth)

    @property
    def transformer(self) -> EncoderConfig:
        """The sizes of a layer, in the terms of the wav2vec 2.0 family's encoder."""
        return EncoderConfig(
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            ffn_width=self.ffn_expansion * self.width,
            norm_first=self.norm_first,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            activation_dropout=self.activation_dropout,
        )


def count_frames(samples: int) -> int:
    """Frames of `samples` samples: whole mel windows, an odd last one left out, by two; 0 where they are too few."""
    return max(0, (samples - WINDOW) // SHIFT + 1) // HALVING


def mel_features(wave: Tensor) -> Tensor:
    """Map a wave [N] in -1..1 to the published mel features [M, 128], M even, in float32 whatever the wave is in.

    Raises `DataError` where the wave is too short for two mel frames.
    """
    if wave.ndim != 1:
        raise DataError(
            f"a wave must be one channel [n], not {list(wave.shape)}", "mix its channels down, or choose one"
        )
    frames = count_frames(len(wave))
    if frames < 1:
        raise DataError(
            f"a sound of {len(wave)} samples is too short: it gives this encoder no frame",
            f"leave out sounds of fewer than {WINDOW + SHIFT} samples at {SAMPLE_RATE} Hz",
        )
    wave = wave.detach().float()
    mel_MK = load_torchaudio().compliance.kaldi.fbank(
        (wave - wave.mean())[None],
        htk_compat=True,
        sample_frequency=SAMPLE_RATE,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=MEL_BANDS,
        dither=0.0,
        frame_shift=10,
    )
    scaled: Tensor = (mel_MK[: HALVING * frames] - MEL_MEAN) / MEL_SCALE
    return scaled


class Halving(nn.Module):
    """Mel features [R, M, 128] to frames [R, M / 2, D]."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, stride=(HALVING, 2), padding=1)
        self.second = nn.Conv2d(channels, channels, 3, stride=(1, 2), padding=1)
        self.projection = nn.Linear(channels * MEL_BANDS // 4, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, mel_RMK: Tensor, padding_RT: Tensor | None) -> Tensor:
        """`padding_RT` is True past a piece's end, None where all are equally long."""
        x = F.relu(self.first(mel_RMK[:, None]))
        if padding_RT is not None:
            x = x.masked_fill(padding_RT[:, None, :, None], 0)
        x = F.relu(self.second(x))
        normalised: Tensor = self.norm(self.projection(x.transpose(1, 2).flatten(2)))
        return normalised


class UsadEncoder(nn.Module):
    """Mel features, halving, positions, transformer. A fresh one is random; `load_state_dict` fills it."""

    def __init__(self, config: UsadConfig) -> None:
        super().__init__()
        self.config = config
        self.halving = Halving(config.channels, config.width)
        self.positions = ConvolutionalPositions(
            config.width, config.position_taps, config.position_groups, config.position_depth
        )
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(RelativeLayer(config.transformer) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, waves: Sequence[Tensor], *, taps: Collection[Tap] = STATES) -> Transformed:
        """Encode waves [N] in -1..1; raises `DataError` where one gives no frame."""
        pieces = [torch.split(mel_features(wave), PIECE) for wave in waves]
        rows = [piece for wave in pieces for piece in wave]
        lengths_R = [len(row) // HALVING for row in rows]
        padding_RT = padding(lengths_R, rows[0].device)
        mel_RMK = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.norm.weight.dtype)
        x = self._position(self.halving(mel_RMK, padding_RT), padding_RT)
        states, ffn, last = self._transform(x, padding_RT, taps)

        def join(x_RTD: Tensor) -> Tensor:
            if len(rows) == len(waves):
                return x_RTD
            parts = iter([x[:length] for x, length in zip(x_RTD, lengths_R, strict=True)])
            joined = [torch.cat([next(parts) for _ in wave]) for wave in pieces]
            whole: Tensor = nn.utils.rnn.pad_sequence(joined, batch_first=True)
            return whole

        return Transformed(
            lengths=tuple(sum(map(len, wave)) // HALVING for wave in pieces),
            states=tuple(map(join, states)),
            ffn=tuple(map(join, ffn)),
            last=join(last),
        )

    def _position(self, x_RTD: Tensor, padding_RT: Tensor | None) -> Tensor:
        """Add positions to frames: the transformer's input."""
        if padding_RT is not None:
            x_RTD = x_RTD.masked_fill(padding_RT[:, :, None], 0)
        x_RTD = x_RTD + self.positions(x_RTD, padding_RT)
        dropped: Tensor = self.dropout(x_RTD if self.config.norm_first else self.norm(x_RTD))
        return dropped

    def _transform(
        self, x: Tensor, padding_RT: Tensor | None, taps: Collection[Tap]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
        mask = None if padding_RT is None else ~padding_RT[:, None, None, :]
        distances = sinusoids(x.shape[1], x.shape[2]).to(x)
        states, ffn = [x], []
        for layer in self.layers:
            if self.training and self.config.layerdrop and torch.rand(()) < self.config.layerdrop:
                inner = torch.zeros_like(x)  # a dropped layer adds nothing
            else:
                x, inner = layer(x, mask, distances)
            states.append(x)
            if "ffn" in taps:
                ffn.append(inner)
        last = self.norm(x) if self.config.norm_first else x
        return tuple(states) if "states" in taps else (), tuple(ffn), last
