"""Sounds of unlike lengths: real ones where SUPERBENCH_SHARED names a folder of them, else noise."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import torch
from torch import Tensor

from superbench import audio

from . import encoder

WORDS = "official/speech_commands_v0.01/manifest.ks.csv"
UTTERANCES = "official/LibriSpeech/manifest.asr.csv"


def sound_lists(words: int, utterances: int) -> dict[str, list[Tensor]]:
    """So many words of a second, so many utterances, and half of each mixed, the long ones among the short ones."""
    shared = os.environ.get("SUPERBENCH_SHARED")
    if shared:
        data = Path(shared) / "data"
        short, long = _recordings(data / WORDS, words), _recordings(data / UTTERANCES, utterances)
    else:
        short, long = encoder.waves(words, 1.0), encoder.waves(utterances, 15.0)
    mixed = short[::2] + long[::2]
    order = torch.randperm(len(mixed), generator=torch.Generator().manual_seed(0)).tolist()
    return {"words": short, "utterances": long, "mixed": [mixed[i] for i in order]}


def _recordings(manifest: Path, count: int) -> list[Tensor]:
    """`count` recordings of a manifest, taken at equal distances; none of the noises that silence is cut from."""
    with manifest.open(newline="", encoding="utf-8") as stream:
        paths = sorted(row["path"] for row in csv.DictReader(stream) if not row["path"].startswith("_"))
    chosen = [paths[i * len(paths) // count] for i in range(count)]
    return [torch.from_numpy(audio.read_file(manifest.parent / p, rate=encoder.RATE, resample=True)) for p in chosen]
