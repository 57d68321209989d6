"""The features of old that SUPERB measures encoders against: `fbank`, `fbank_no_cmvn` and `mfcc`.

All constants are s3prl's (ec8064b, s3prl/upstream/baseline/*.yaml and extracter.py; reference/PROTOCOL.md "Baseline
features"): Kaldi's filter bank or MFCC with frames of 25 ms every 10 ms, deltas of the first and second order, and
mean and variance normalisation per utterance (CMVN). There is one layer, of 100 frames per second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from superbench.errors import DataError
from superbench.plugin import Layers, NoOptions, UpstreamSpec
from superbench.torchaudio_loader import load as load_torchaudio

if TYPE_CHECKING:
    import torch

SAMPLE_RATE = 16000  # Hz
WINDOW = 400  # samples: 25 ms
SHIFT = 160  # samples: 10 ms
MEL_BINS = 80
CEPSTRA = 13
DELTA_WINDOW = 5  # frames
CMVN_EPS = 1e-10  # added to the standard deviation


class Baseline:
    """Kaldi features with deltas, as an upstream of one layer; each wave is computed alone."""

    sample_rate: int = SAMPLE_RATE
    strides: Sequence[int] = (SHIFT,)
    widths: Sequence[int]
    exact_batches = True

    def __init__(
        self, *, static: Callable[[torch.Tensor], torch.Tensor], width: int, cmvn: bool, dtype: torch.dtype
    ) -> None:
        """`static` maps a wave [1, n] to features [T, `width`]; deltas make that three times `width`."""
        self.widths = (3 * width,)
        self._static = static
        self._cmvn = cmvn
        self._fewest = 2 if cmvn else 1  # frames: one alone has no variance
        self._dtype = dtype

    def num_frames(self, samples: int) -> int:
        """Frames of `samples` samples by Kaldi's `snip_edges` rule: only whole windows count; with CMVN no lone one."""
        frames = max(0, (samples - WINDOW) // SHIFT + 1)
        return frames if frames >= self._fewest else 0

    def astype(self, dtype: torch.dtype) -> Baseline:
        """Compute in `dtype` from now on; returns itself."""
        self._dtype = dtype
        return self

    def __call__(self, waves: list[torch.Tensor]) -> list[Layers]:
        """Map waves [n] in -1..1 to one layer [T, D] each; raises `DataError` where a wave is too short."""
        return [Layers((self._features(wave),)) for wave in waves]

    def _features(self, wave: torch.Tensor) -> torch.Tensor:
        if not self.num_frames(wave.shape[0]):
            raise DataError(
                f"a sound of {wave.shape[0]} samples is too short: these features need {self._fewest} frame(s)",
                f"leave out sounds shorter than {WINDOW + (self._fewest - 1) * SHIFT} samples at {SAMPLE_RATE} Hz",
            )
        x_TD = with_deltas(self._static(wave.detach().to(self._dtype)[None]))
        return cmvn(x_TD) if self._cmvn else x_TD


def with_deltas(x_TD: torch.Tensor) -> torch.Tensor:
    """Append deltas of the first and second order: [T, D] -> [T, 3 D]."""
    import torch

    deltas = load_torchaudio().functional.compute_deltas
    first = deltas(x_TD.T, win_length=DELTA_WINDOW)
    second = deltas(first, win_length=DELTA_WINDOW)
    return torch.cat([x_TD.T, first, second]).T.contiguous()


def cmvn(x_TD: torch.Tensor) -> torch.Tensor:
    """Normalise each dimension over time: (x - mean) / (1e-10 + standard deviation with T - 1).

    The first frame is taken off beforehand, which changes nothing but rounding: a dimension that is constant, as all
    are in digital silence, becomes exactly 0, where 1e-10 would blow up the rounding error of its mean.
    """
    centred = x_TD - x_TD[0]
    return (centred - centred.mean(0)) / (CMVN_EPS + centred.std(0))


def _filter_bank(wave: torch.Tensor) -> torch.Tensor:
    features: torch.Tensor = load_torchaudio().compliance.kaldi.fbank(
        wave, num_mel_bins=MEL_BINS, sample_frequency=SAMPLE_RATE
    )
    return features


def _cepstra(wave: torch.Tensor) -> torch.Tensor:
    features: torch.Tensor = load_torchaudio().compliance.kaldi.mfcc(
        wave, num_ceps=CEPSTRA, sample_frequency=SAMPLE_RATE
    )
    return features


def load_fbank(options: NoOptions, device: str) -> Baseline:
    """Return the log mel filter bank with deltas and CMVN; `device` is where the waves are."""
    import torch

    return Baseline(static=_filter_bank, width=MEL_BINS, cmvn=True, dtype=torch.float32)


def load_fbank_no_cmvn(options: NoOptions, device: str) -> Baseline:
    """Return the log mel filter bank with deltas, not normalised; `device` is where the waves are."""
    import torch

    return Baseline(static=_filter_bank, width=MEL_BINS, cmvn=False, dtype=torch.float32)


def load_mfcc(options: NoOptions, device: str) -> Baseline:
    """Return MFCC with deltas and CMVN; `device` is where the waves are."""
    import torch

    return Baseline(static=_cepstra, width=CEPSTRA, cmvn=True, dtype=torch.float32)


SPECS = (
    UpstreamSpec(
        name="fbank",
        load=load_fbank,
        summary="log mel filter bank, deltas, CMVN: its mean over time is 0, so pooling heads see a constant",
        distributions=("torchaudio",),
    ),
    UpstreamSpec(
        name="fbank_no_cmvn",
        load=load_fbank_no_cmvn,
        summary="log mel filter bank and deltas without CMVN",
        distributions=("torchaudio",),
    ),
    UpstreamSpec(
        name="mfcc",
        load=load_mfcc,
        summary="13 MFCC, deltas, CMVN: its mean over time is 0, so pooling heads see a constant",
        distributions=("torchaudio",),
    ),
)
