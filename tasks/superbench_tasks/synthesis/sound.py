"""From what espeak-ng gives to a 16 kHz recording with its own level and its own noise."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from superbench_tasks.synthesis.espeak import RATE as ESPEAK_RATE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Wave = npt.NDArray[np.float64]

RATE = 16000  # Hz, of every recording of the official corpora
SPEECH_DB = -26.0  # mean level of a speaker, dB below full scale
CEILING = 0.9  # largest sample of a recording: nothing is clipped


@dataclass(frozen=True, kw_only=True)
class Room:
    """How a tree's recordings differ from one another: level and noise are drawn for each, uniformly."""

    level_db: float  # a recording is up to this much louder or softer than its speaker's mean
    noise_db: tuple[float, float]  # level of the noise, dB below full scale
    noise_colour: tuple[float, float] = (0.0, 1.5)  # exponent a of its power spectrum 1 / f^a


Noise = Literal["white_noise", "pink_noise", "brown_noise", "mains_hum", "running_tap", "ticking_clock"]
NOISES: tuple[Noise, ...] = ("white_noise", "pink_noise", "brown_noise", "mains_hum", "running_tap", "ticking_clock")


def generator(seed: int, path: str) -> np.random.Generator:
    """Return the random numbers of one recording: a function of the seed and its path, of nothing else."""
    import numpy as np

    return np.random.default_rng(list(hashlib.sha256(f"{seed}:{path}".encode()).digest()))


def resample(samples: npt.NDArray[np.int16]) -> Wave:
    """Bring espeak-ng's samples [n] to 16 kHz, full scale = 1."""
    import numpy as np
    import soxr

    return np.asarray(soxr.resample(samples.astype(np.float64) / 32768, ESPEAK_RATE, RATE, quality="HQ"))


def speaker_gain(waves: list[Wave]) -> float:
    """Return the factor that brings the mean power of all of a speaker's waves to `SPEECH_DB`; styles keep theirs."""
    import numpy as np

    power = float(np.mean(np.concatenate(waves) ** 2))
    return float(amplitude(SPEECH_DB) / np.sqrt(power))


def amplitude(db: float) -> float:
    """Return the factor that is `db` decibels."""
    return float(10 ** (db / 20))


def record(wave: Wave, *, gain: float, room: Room, samples: int | None, random: np.random.Generator) -> Wave:
    """Return one recording: the wave at its level, somewhere within `samples` samples if given, and noise over all."""
    import numpy as np

    level = gain * amplitude(random.uniform(-room.level_db, room.level_db))
    if samples is not None:
        wave = wave[:samples]
        before = int(random.integers(samples - len(wave), endpoint=True))
        wave = np.pad(wave, (before, samples - len(wave) - before))
    noise = coloured(random, len(wave), random.uniform(*room.noise_colour))
    return below_ceiling(wave * level + noise * amplitude(random.uniform(*room.noise_db)))


def below_ceiling(wave: Wave) -> Wave:
    """Return the wave, softer where its peak would pass `CEILING`."""
    import numpy as np

    return wave * min(1.0, CEILING / float(np.abs(wave).max()))


def coloured(random: np.random.Generator, samples: int, exponent: float) -> Wave:
    """Return noise [samples] of unit power whose power spectrum falls as 1 / f^exponent above 20 Hz."""
    import numpy as np

    spectrum = np.fft.rfft(random.standard_normal(samples))
    frequency = np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 20.0)
    noise = np.fft.irfft(spectrum * frequency ** (-exponent / 2), samples)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))


def background(kind: Noise, samples: int, random: np.random.Generator) -> Wave:
    """Return made background noise [samples] of one kind, at a drawn level between -46 and -26 dB."""
    import numpy as np

    time = np.arange(samples) / RATE
    if kind == "white_noise":
        wave = coloured(random, samples, 0.0)
    elif kind == "pink_noise":
        wave = coloured(random, samples, 1.0)
    elif kind == "brown_noise":
        wave = coloured(random, samples, 2.0)
    elif kind == "mains_hum":  # 50 Hz and its harmonics
        phases = random.uniform(0, 2 * np.pi, 12)
        wave = sum(
            (np.sin(2 * np.pi * 50 * (k + 1) * time + phase) / (k + 1) for k, phase in enumerate(phases)), 0 * time
        )
        wave = wave + 0.1 * coloured(random, samples, 1.0)
    elif kind == "running_tap":  # high noise whose loudness wanders
        wave = coloured(random, samples, -0.5) * (1 + 0.5 * np.sin(2 * np.pi * random.uniform(0.4, 1.5) * time))
    else:  # a click that rings at 2 kHz, a few times a second
        since = (time + random.uniform(0, 1)) % random.uniform(0.3, 0.6)
        wave = np.sin(2 * np.pi * 2000 * since) * np.exp(-80 * since) + 0.05 * coloured(random, samples, 0.5)
    level = amplitude(random.uniform(-46, -26)) / np.sqrt(np.mean(wave**2))
    return below_ceiling(wave * level)


def encode(wave: Wave, suffix: str) -> bytes:
    """Return the bytes of a 16-bit mono file, `.wav` or `.flac`."""
    import numpy as np
    import soundfile

    file = io.BytesIO()
    pcm = np.round(wave * 32767).astype(np.int16)
    soundfile.write(file, pcm, RATE, subtype="PCM_16", format={".wav": "WAV", ".flac": "FLAC"}[suffix])
    return file.getvalue()
