"""The sounds an upstream is checked on: recordings, or speech-like sounds that are the same on every machine."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from superbench import audio
from superbench.contracts import Row
from superbench.errors import DataError

# seconds, loudness (RMS of the whole), Hz of the voice, Hz of its first three formants at the start and at the end.
# The formants are those of [i], [u] and [a] for men and women: Peterson and Barney 1952, table II, rounded.
MADE = (
    (0.30, 0.0003, 220.0, (310, 2790, 3310), (850, 1220, 2810)),
    (0.72, 0.003, 110.0, (730, 1090, 2440), (300, 870, 2240)),
    (1.10, 0.03, 190.0, (370, 950, 2670), (310, 2790, 3310)),
    (1.65, 0.1, 130.0, (270, 2290, 3010), (730, 1090, 2440)),
    (2.31, 0.5, 95.0, (300, 870, 2240), (270, 2290, 3010)),
)
SILENCE_SECONDS = 0.9
BANDWIDTH = 90.0  # Hz, of each formant
VOICED, HISS = 0.55, 0.80  # fractions of a sound: voiced up to the first, noise up to the second, then nothing


@dataclass(frozen=True, kw_only=True)
class Sound:
    """One sound to check on."""

    name: str
    wave: Tensor  # float32 [n], on the CPU, at the upstream's rate


def made_sounds(rate: int) -> tuple[Sound, ...]:
    """Make speech-like sounds at `rate` Hz: a voice that glides, noise and a pause, from faint to loud; and silence."""
    voices = tuple(
        Sound(name=f"made {seconds:g} s, RMS {loudness:g}", wave=_voice(rate, number))
        for number, (seconds, loudness, *_) in enumerate(MADE)
    )
    silence = Sound(name=f"digital silence, {SILENCE_SECONDS:g} s", wave=torch.zeros(int(SILENCE_SECONDS * rate)))
    return (*voices, silence)


def read_sounds(files: Sequence[Path], *, rate: int, resample: bool) -> tuple[Sound, ...]:
    """Read recordings at `rate` Hz; raises `DataError` where one cannot be used."""
    return tuple(Sound(name=str(file), wave=_read(file, rate, resample)) for file in files)


def lengthened(wave: Tensor, samples: int) -> Tensor:
    """Return `samples` samples of a wave, which is repeated where it is shorter: [n] -> [samples]."""
    return wave.repeat(-(-samples // max(1, len(wave))))[:samples].clone()


def _read(file: Path, rate: int, resample: bool) -> Tensor:
    """Read a recording, float32 [n]; where its rate is another, the error says whose rate was wanted."""
    try:
        return torch.from_numpy(audio.read_file(file, rate=rate, resample=resample))
    except DataError as exc:
        _, problems = audio.inspect(Row(id=file.name, path=file.absolute()), rate=rate, resample=resample)
        if any(problem.kind == "rate" for problem in problems):
            raise DataError(f"the upstream states {rate} Hz: {exc.message}", exc.hint) from exc
        raise


def _voice(rate: int, number: int) -> Tensor:
    """Add up the harmonics of a gliding voice, each as loud as formants near it make it; then noise, then a pause."""
    seconds, loudness, pitch, first, last = MADE[number]
    n = int(seconds * rate) + number  # no round number of samples
    time_N = torch.arange(n, dtype=torch.float64) / rate
    along_N = time_N / seconds
    pitch_N = pitch * (1 + 0.08 * torch.sin(2 * torch.pi * 2.5 * time_N) - 0.15 * along_N)
    phase_N = 2 * torch.pi * torch.cumsum(pitch_N, 0) / rate
    voice_N = torch.zeros(n, dtype=torch.float64)
    for harmonic in itertools.takewhile(lambda k: k * pitch * 1.1 < min(5000, rate / 2), itertools.count(1)):
        gain_N = sum(
            1 / (1 + ((harmonic * pitch_N - (a + (b - a) * along_N)) / BANDWIDTH) ** 2)
            for a, b in zip(first, last, strict=True)
        )
        voice_N += gain_N * torch.sin(harmonic * phase_N)
    noise_N = torch.randn(n, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
    voice_N = torch.where(along_N < VOICED, voice_N + 0.01 * noise_N, torch.where(along_N < HISS, 0.2 * noise_N, 0.0))
    for _ in range(30):  # what is clipped makes it fainter: turned up again, until the loudness is right
        voice_N = (voice_N * (loudness / voice_N.square().mean().sqrt())).clamp(-1, 1)
    return voice_N.float()
