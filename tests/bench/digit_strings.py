"""Strings of digits made of recordings of single ones: real speech that is long enough for CTC and soon learnt."""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping
from pathlib import Path

import numpy
import soundfile

DIGITS = 5  # in a string
STRINGS = {"train": 240, "dev": 60, "test": 120}
STRINGS_CSV = "strings.csv"


def write_strings(digits: Path, folder: Path, strings: Mapping[str, int]) -> None:
    """Join recordings of digits by one speaker, drawn with a fixed seed, into strings, each of its split."""
    with digits.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    draw = random.Random(0)
    (folder / "strings").mkdir(parents=True, exist_ok=True)
    written = []
    for split, count in strings.items():
        spoken: dict[str, list[dict[str, str]]] = {}
        for row in rows:
            if row["split"] == split:
                spoken.setdefault(row["speaker"], []).append(row)
        speakers = sorted(spoken)
        for i in range(count):
            speaker = speakers[i % len(speakers)]
            drawn = draw.sample(spoken[speaker], DIGITS)
            waves, rates = zip(*(soundfile.read(digits.parent / row["path"]) for row in drawn), strict=True)
            path = f"strings/{split}{i}.wav"
            soundfile.write(folder / path, numpy.concatenate(waves), rates[0])
            written.append((path, split, " ".join(row["text"] for row in drawn)))
    with (folder / STRINGS_CSV).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "split", "text"))
        writer.writerows(written)
