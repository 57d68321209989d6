"""`dmel`: a log mel spectrogram rounded to a few levels per channel, a speech tokeniser that needs no training.

    --upstream dmel                       (16 levels, 40 frames per second)
    --upstream dmel:hop=12.5,low=-5.2,high=1.1

What is computed is that of the code published with dMel (Bai et al. 2024, arXiv 2407.15835; apple/dmel, of November
2026): magnitudes of a 1024-point transform under a Hann window of 50 ms, centred on each hop with the sound reflected
at its ends, 80 mel bands of Slaney's scale and norm from 80 to 7600 Hz, log10 with a floor of 1e-10, and the nearest of
2^bits levels. Where the levels stand, the paper and its code disagree; both are here (see `Options`).

In float32 log mels agree with the reference's within 4e-6 and codes entirely (golden/dmel). In float64 the mel bank is
still that of float32, as in the reference, so no more digits than these can be compared.

Shapes: N samples, T frames, K mel bands (80).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from superbench.errors import DataError, UsageError, did_you_mean
from superbench.plugin import Layers, UpstreamSpec
from superbench.torchaudio_loader import load as load_torchaudio

if TYPE_CHECKING:
    import torch

SAMPLE_RATE = 16000  # Hz
HOPS = {25.0: 400, 12.5: 200}  # ms: samples; the paper's, and that of the example beside its code
TRANSFORM = 1024  # points
WINDOW = 800  # samples: 50 ms
MEL_BANDS = 80
LOWEST, HIGHEST = 80.0, 7600.0  # Hz, of the mel bands
FLOOR = 1e-10  # under a band's magnitude
CODE_LOW, CODE_HIGH = -7.0, 2.0  # the code's fixed range of log10 magnitudes
MOST_BITS = 8
SHORTEST = TRANSFORM // 2 + 1  # samples: a sound is reflected by half a transform at each end


Output = Literal["hidden", "codes", "continuous"]


@dataclass(frozen=True)
class Options:
    """`hop`: ms between frames, 25 or 12.5. `bits`: 2^bits levels. `low`, `high`: the range, in log10 of a magnitude.

    With neither `low` nor `high` the levels are the code's: -7 + i * s for i in 0..2^bits - 1, where
    s = round(9 / (2^bits - 1), 4), so that they reach from -7 to 2 (for 4 bits in steps of 0.6).
    With both, the minimum and maximum of a corpus, they are the paper's: low + i * (high - low) / 2^bits, so that the
    last stands one step below `high`. Either way a value goes to the nearest level, of two the lower, and a value
    outside the range to the first or last.
    """

    hop: float = 25.0
    bits: int = 4
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Evenly spaced numbers that a log mel is rounded to."""

    low: float
    step: float
    count: int

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """The number (int64) of the level nearest to each value; of two, the lower."""
        import torch

        levels = self.decode(torch.arange(self.count, device=x.device), x.dtype)
        return torch.bucketize(x.contiguous(), (levels[:-1] + levels[1:]) / 2)

    def decode(self, codes: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The levels of these numbers."""
        return self.low + self.step * codes.to(dtype)


class DMel:
    """One layer [T, 80]: log mels rounded to their levels; or the levels' numbers, or log mels as they were."""

    sample_rate: int = SAMPLE_RATE
    strides: Sequence[int]
    widths: Sequence[int] = (MEL_BANDS,)
    exact_batches = True  # each wave is computed alone
    taps: tuple[Output, ...] = ("codes", "continuous")

    def __init__(self, *, hop: int, levels: Levels, dtype: torch.dtype, output: Output = "hidden") -> None:
        """`hop` is in samples."""
        self.strides = (hop,)
        self.levels = levels
        self.integers = output == "codes"  # int64, 0..2^bits - 1
        self._hop = hop
        self._dtype = dtype
        self._output = output

    def tap(self, name: str) -> DMel:
        """The same with another output: "codes" (int64), "continuous", or "hidden", the layer itself."""
        if name not in ("hidden", *self.taps):
            raise UsageError(f"dmel has no tap {name!r}", did_you_mean(name, ("hidden", *self.taps)))
        return DMel(hop=self._hop, levels=self.levels, dtype=self._dtype, output=name)

    def astype(self, dtype: torch.dtype) -> DMel:
        """Compute in `dtype` from now on; returns itself."""
        self._dtype = dtype
        return self

    def num_frames(self, samples: int) -> int:
        """Frames of `samples` samples: their windows are centred on sample 0 and on every hop; 0 where too short."""
        return 1 + samples // self._hop if samples >= SHORTEST else 0

    def __call__(self, waves: list[torch.Tensor]) -> list[Layers]:
        """Map waves [N] in -1..1 to one layer [T, 80] each; raises `DataError` where a wave is too short."""
        return [Layers((self._read(wave),)) for wave in waves]

    def _read(self, wave: torch.Tensor) -> torch.Tensor:
        x_TK = log_mel(wave.detach().to(self._dtype), self._hop)
        if self._output == "continuous":
            return x_TK
        codes_TK = self.levels.encode(x_TK)
        return codes_TK if self._output == "codes" else self.levels.decode(codes_TK, x_TK.dtype)


def log_mel(wave: torch.Tensor, hop: int) -> torch.Tensor:
    """Map a wave [N] to the log10 of its mel magnitudes [T, 80]; raises `DataError` where it is too short."""
    import torch

    if wave.ndim != 1:
        raise DataError(
            f"a wave must be one channel [n], not {list(wave.shape)}", "mix its channels down, or choose one"
        )
    if wave.shape[0] < SHORTEST:
        raise DataError(
            f"a sound of {wave.shape[0]} samples is too short: dmel reflects {SHORTEST - 1} samples at its ends",
            f"leave out sounds shorter than {SHORTEST} samples at {SAMPLE_RATE} Hz",
        )
    window = torch.hann_window(WINDOW, dtype=wave.dtype, device=wave.device)
    magnitude_FT = torch.stft(
        wave, TRANSFORM, hop, WINDOW, window, center=True, pad_mode="reflect", return_complex=True
    ).abs()
    bank_FK = load_torchaudio().functional.melscale_fbanks(
        TRANSFORM // 2 + 1, LOWEST, HIGHEST, MEL_BANDS, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
    )
    x_TK: torch.Tensor = (magnitude_FT.T @ bank_FK.to(wave)).clamp(min=FLOOR).log10()
    return x_TK


def _levels(options: Options) -> Levels:
    """The levels that `options` ask for; raises `UsageError` where they make no sense."""
    if not 1 <= options.bits <= MOST_BITS:
        raise UsageError(f"dmel: bits={options.bits} is not from 1 to {MOST_BITS}", "the paper's is bits=4")
    count = 2**options.bits
    if options.low is None and options.high is None:
        return Levels(low=CODE_LOW, step=round((CODE_HIGH - CODE_LOW) / (count - 1), 4), count=count)
    if options.low is None or options.high is None:
        missing = "low" if options.low is None else "high"
        raise UsageError(
            f"dmel: {missing} is missing: a range has two ends",
            f"give the corpus's minimum as low and its maximum as high, or neither for {CODE_LOW:g}..{CODE_HIGH:g}",
        )
    if not (math.isfinite(options.low) and math.isfinite(options.high) and options.low < options.high):
        raise UsageError(f"dmel: low={options.low:g} is not below high={options.high:g}", "exchange them?")
    return Levels(low=options.low, step=(options.high - options.low) / count, count=count)


def load(options: Options, device: str) -> DMel:
    """Return dMel computing in float32; `device` is where the waves are."""
    import torch

    if options.hop not in HOPS:
        raise UsageError(f"dmel: hop={options.hop:g} ms is not one of {', '.join(f'{h:g}' for h in HOPS)}", "hop=25")
    return DMel(hop=HOPS[options.hop], levels=_levels(options), dtype=torch.float32)


SPEC = UpstreamSpec(
    name="dmel",
    load=load,
    options=Options,
    summary="log mel bands rounded to 16 levels, training-free speech tokens",
    distributions=("torchaudio",),
)
