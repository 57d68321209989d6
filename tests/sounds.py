"""Small corpora that tests make: three kinds of sound that any features tell apart."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

COLUMNS = ("path", "split", "fold", "speaker", "label", "text", "phones")
TONES = {"low": (220, "GO", "G OW1"), "high": (2200, "STOP", "S T AA1 P"), "hiss": (0, "UP", "AH1 P")}
RATE = 16000  # Hz


def write_manifest(path: Path, rows: list[dict[str, str]]) -> Path:
    """A CSV with the columns that `rows` have."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def make_tones(folder: Path, per_split: Mapping[str, int], *, rate: int = RATE) -> Path:
    """Tones and noise of a quarter of a second and more, each different, and a manifest that serves every task."""
    import numpy as np
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0)
    rows = []
    for split, count in per_split.items():
        for i in range(count):
            label = tuple(TONES)[i % len(TONES)]
            hertz, text, phones = TONES[label]
            samples = rate // 4 + 97 * i
            wave = (0.02 if hertz else 0.2) * noise.standard_normal(samples)
            wave += 0.3 * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)
            name = f"{split}{i:02d}.wav"
            soundfile.write(folder / name, wave.astype("float32"), rate, subtype="PCM_16")
            speaker, fold = f"{split}-{i // 3}", str(1 + i % 3)
            rows.append(dict(zip(COLUMNS, (name, split, fold, speaker, label, text, phones), strict=True)))
    folds = write_manifest(folder / "folds.csv", rows)
    return write_manifest(
        folds.with_name("manifest.csv"), [{k: v for k, v in row.items() if k != "fold"} for row in rows]
    )
