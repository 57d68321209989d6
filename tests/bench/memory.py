"""Peak memory of a run on pooled means against the same run on frames.

Both are whole `superbench run` processes: the same corpus, upstream (as large as a base encoder's layers), task and
steps, and heads that compute the same; only what is kept of a recording differs. The peak is the process's greatest
resident set. An interpreter with torch is a constant part of it, named in the note; files of the store that are mapped
into memory count too. The ratio grows with the corpus, until the features are too many to be kept in memory, and an
encoder's own weights, which are not here, would make it smaller.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import soundfile

from . import encoder
from .comparison import Comparison, alternate
from .imports import SUPERBENCH

PLUGINS = tuple(Path(__file__).with_name(name) for name in ("base_shaped.py", "mean_of_frames.py"))
HEADS = {"frames": "mean_of_frames", "pooled": "pooled_linear"}

# On Linux a process inherits the peak of the one that starts it. This one, which is small, stands between.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(peak / (2**20 if sys.platform == "darwin" else 2**10))  # macOS counts bytes, Linux KiB
"""


@dataclass(frozen=True, kw_only=True)
class Size:
    recordings: int
    seconds: float  # of the longest recording
    steps: int
    rounds: int


SMALL = Size(recordings=40, seconds=3.0, steps=5, rounds=3)
FULL = replace(SMALL, recordings=400, steps=20)


def compare(size: Size) -> tuple[Comparison, ...]:
    """One comparison, in MiB of resident memory."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        manifest = _write_corpus(root, size)
        kept: dict[str, float] = {}  # MiB of features, by form

        def run(form: str) -> float:
            with tempfile.TemporaryDirectory(dir=root) as home:
                peak = peak_memory(SUPERBENCH, *_arguments(Path(home), manifest, form, size.steps))
                (result,) = Path(home).rglob("result.json")
                kept[form] = json.loads(result.read_text(encoding="utf-8"))["features"]["bytes"] / 2**20
            return peak

        measures: dict[str, Callable[[], float]] = {
            "frames": lambda: run("frames"),
            "pooled": lambda: run("pooled"),
        }
        taken = alternate(measures, size.rounds)
    return (
        Comparison(
            benchmark="memory",
            a="run on frames",
            b="run on pooled means",
            unit="MiB",
            a_values=taken["frames"],
            b_values=taken["pooled"],
            note=(
                f"features {kept['frames']:.3g} and {kept['pooled']:.2g} MiB; "
                f"a Python with torch alone: {peak_memory('import torch'):.0f} MiB"
            ),
        ),
    )


def peak_memory(code: str, *arguments: str) -> float:
    """Greatest resident set of `python -c code arguments`, in MiB."""
    command = [sys.executable, "-c", PEAK, sys.executable, "-c", code, *arguments]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _arguments(home: Path, manifest: Path, form: str, steps: int) -> list[str]:
    given = {
        "--upstream": "base_shaped",
        "--task": "ks",
        "--data": str(manifest),
        "--head": HEADS[form],
        "--steps": str(steps),
        "--lr": "1e-3",
        "--device": "cpu",
    }
    plugins = [text for plugin in PLUGINS for text in ("-p", str(plugin))]
    return [*plugins, "--quiet", "--home", str(home), "run", *(text for pair in given.items() for text in pair)]


def _write_corpus(root: Path, size: Size) -> Path:
    """Noise with labels: a tenth each for dev and test."""
    manifest = root / "corpus.csv"
    splits = [*["train"] * 8, "dev", "test"]
    with manifest.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "split", "speaker", "label"))
        for i, wave in enumerate(encoder.waves(size.recordings, size.seconds)):
            soundfile.write(root / f"{i}.wav", wave.clamp(-1, 1).numpy(), encoder.RATE)
            split = splits[i % len(splits)]
            writer.writerow((f"{i}.wav", split, f"{split} speaker", ("yes", "no")[i // len(splits) % 2]))
    return manifest
