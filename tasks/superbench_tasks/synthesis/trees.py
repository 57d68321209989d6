"""The synthetic corpus on disk, whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

from superbench.contracts import sha256_of
from superbench.errors import ResourceError, UsageError, did_you_mean
from superbench_tasks.synthesis import sound
from superbench_tasks.synthesis.layouts import Take, Tree, plan
from superbench_tasks.synthesis.sizes import SIZES
from superbench_tasks.synthesis.voices import espeak_version, speak

VERSION = 1  # grows when the same plan would sound different
SETTINGS = "synthesis.json"
PACKAGES = ("espeakng-loader", "numpy", "soxr", "soundfile")  # their versions decide the bytes
Progress = Callable[[str, int, int], None]


README = """\
A SYNTHETIC corpus, made by `superbench corpus synthesize --size {size} --seed {seed}`.

Nobody recorded any of this. The speech synthesiser espeak-ng {espeak} said every word; the noise was computed.
The folders are laid out as those of LibriSpeech, Speech Commands v0.01, VoxCeleb1 and IEMOCAP, and hold
nothing of these corpora: speakers, sentences, emotions and ratings are invented (synthesis.json: how).

What it can show: that superbench and an encoder work together, from reading the files to a leaderboard.
What it cannot show: how good an encoder is. A formant synthesiser repeats itself as no human does, its
speakers are settings of one machine, and its emotions are rates, pitches and volumes. Scores on this
corpus are labelled "custom", and must never stand beside scores on the corpora whose folders it borrows.

The recordings may be used for anything. espeak-ng itself is under the GNU GPL, version 3 or later, and is
not part of this folder.
"""


def synthesize_corpus(root: Path, *, seed: int = 0, size: str = "small", progress: Progress | None = None) -> Path:
    """Make the synthetic corpus in the new folder `root` and return it; the same seed and size give the same bytes.

    `progress(tree, done, total)` hears of finished speakers, in recordings of the whole corpus. Where `root`
    already holds this very corpus nothing is done; where it holds anything else, `UsageError`. `MissingExtraError`
    without espeakng-loader; `ResourceError` where it cannot be written.
    """
    root = root.resolve()
    settings = corpus_settings(seed=seed, size=size)
    if holds(root, settings):
        return root
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError(f"{root} exists and is not an empty folder", "name a new folder, or remove this one")
    part = root.with_name(f".{root.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir(parents=True)
        _make(part, plan(seed, SIZES[size]), seed, progress)
        _write(part / "README.txt", README.format(size=size, seed=seed, espeak=espeak_version()).encode())
        _write(part / SETTINGS, settings.encode())
        if root.exists():
            root.rmdir()
        part.rename(root)
    except OSError as error:
        raise ResourceError(
            f"cannot make the corpus in {root}: {error}", "name a folder that can be written"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return root


def corpus_settings(*, seed: int, size: str) -> str:
    """Return the text of `synthesis.json`: all that decides the bytes of a corpus, and how much there is of it."""
    if size not in SIZES:
        raise UsageError(f"there is no size {size!r} of the synthetic corpus", did_you_mean(size, SIZES))
    trees = plan(seed, SIZES[size])
    settings = {
        "version": VERSION,
        "seed": seed,
        "size": size,
        "sample_rate": sound.RATE,
        "recordings": {tree.name: tree.recordings for tree in trees},
        "plan_sha256": sha256_of([[*map(asdict, tree.takes), *map(asdict, tree.noises)] for tree in trees]),
        "espeak-ng": espeak_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }
    return json.dumps(settings, indent=2) + "\n"


def holds(root: Path, settings: str) -> bool:
    """Say whether `root` holds the whole corpus of exactly these settings."""
    path = root / SETTINGS
    return path.is_file() and path.read_bytes() == settings.encode()


def _make(folder: Path, trees: Sequence[Tree], seed: int, progress: Progress | None) -> None:
    """Record every tree, speakers side by side, and write its text files."""
    total = sum(tree.recordings for tree in trees)
    done = 0
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # each thread waits for a child process
        for tree in trees:
            speakers = list(dict.fromkeys(take.voice for take in tree.takes))
            lines = [[take for take in tree.takes if take.voice == speaker] for speaker in speakers]
            samples: dict[str, int] = {}
            for said in pool.map(partial(_record_speaker, folder, seed), lines):
                samples |= said
                done += len(said)
                if progress:
                    progress(tree.name, done, total)
            for noise in tree.noises:
                wave = sound.background(noise.kind, noise.samples, sound.generator(seed, noise.path))
                _write(folder / noise.path, sound.encode(wave, Path(noise.path).suffix))
            done += len(tree.noises)
            if progress:
                progress(tree.name, done, total)
            for path, text in tree.documents(samples).items():
                _write(folder / path, text.encode())


def _record_speaker(folder: Path, seed: int, takes: Sequence[Take]) -> dict[str, int]:
    """Write all recordings of one speaker; return how many samples each has, by its path."""
    waves = [sound.resample(samples) for samples in speak(takes[0].voice, [take.line for take in takes])]
    gain = sound.speaker_gain(waves)
    said = {}
    for take, wave in zip(takes, waves, strict=True):
        random = sound.generator(seed, take.path)
        recording = sound.record(wave, gain=gain, room=take.room, samples=take.samples, random=random)
        _write(folder / take.path, sound.encode(recording, Path(take.path).suffix))
        said[take.path] = len(recording)
    return said


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
