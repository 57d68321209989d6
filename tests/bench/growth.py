"""Cost as the work grows: utterances, layers of the encoder, candidates; as time of a step, private memory, and bytes.

Each point is a whole `superbench run` process on features as large as a base encoder's that cost nothing to compute
(`base_shaped`). A has several times as much of one thing as B, whose run is the smallest. Private memory is the
greatest anonymous resident set (RssAnon of Linux) while the process lives: the interpreter, torch, the head and what is
kept of features, but no file that is mapped into memory. It is to stay under `--memory`, whatever the corpus: what the
largest run has more than the smallest is held against that budget, and where it is over it the promise is broken. The
time of a step, of all candidates, is that of training with one evaluation (dev is always as large) over its steps; what
torch does once in a process, when the first optimiser is made, comes before (`base_shaped`).
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import soundfile

from . import encoder
from .comparison import Growth
from .imports import SUPERBENCH

PLUGINS = tuple(Path(__file__).with_name(name) for name in ("base_shaped.py", "mean_of_frames.py"))
HEADS = {"pooled": "pooled_linear", "frames": "mean_of_frames"}
HELD_OUT = 8  # recordings of dev, and of test
POLLED = 0.003  # seconds between two looks at a process's memory
MIB = 2**20
STEP, PRIVATE, STORE = "time of a step", "private memory", "store"
UNITS = {STEP: "s", PRIVATE: "MiB", STORE: "MiB"}


@dataclass(frozen=True, kw_only=True)
class Size:
    recordings: Mapping[str, int]  # of training, by form, of the smallest run
    seconds: Mapping[str, float]  # of the longest recording, by form
    utterances: tuple[int, ...]  # times as many
    layers: tuple[int, ...]  # the least first
    candidates: tuple[tuple[int, int], ...]  # learning rates and seeds, the fewest first
    steps: Mapping[str, int]  # by form
    memory: int  # bytes, `--memory`
    rounds: int


# 16 x 128 time means of 13 x 768 are 78 MiB, 16 x 32 recordings of 24 frames 468 MiB: more than the budget
SMALL = Size(
    recordings={"pooled": 128, "frames": 32},
    seconds={"pooled": 0.1, "frames": 0.5},
    utterances=(4, 16),
    layers=(13, 25),
    candidates=((1, 1), (5, 1), (5, 5)),
    steps={"pooled": 200, "frames": 40},
    memory=256 * MIB,
    rounds=1,  # nine processes
)
FULL = replace(
    SMALL, recordings={"pooled": 1000, "frames": 64}, steps={"pooled": 1000, "frames": 50}, rounds=3
)  # time means: 610 MiB


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run."""

    form: str
    steps: int
    utterances: int = 1  # times the smallest run's
    layers: int
    rates: int
    seeds: int


def points(size: Size) -> list[tuple[Point, Point, str, float]]:
    """What is run against what, what there is more of, and how many times as much."""
    (layers, *more_layers), ((rates, seeds), *more_candidates) = size.layers, size.candidates
    found = []
    for form in HEADS:
        least = Point(form=form, steps=size.steps[form], layers=layers, rates=rates, seeds=seeds)
        found += [(replace(least, utterances=n), least, "utterances", float(n)) for n in size.utterances]
        if form == "pooled":
            found += [(replace(least, layers=n), least, "layers", n / layers) for n in more_layers]
            found += [
                (replace(least, rates=r, seeds=s), least, "candidates", r * s / (rates * seeds))
                for r, s in more_candidates
            ]
    return found


def compare(size: Size) -> tuple[Growth, ...]:
    """Three lines for each pair of runs; two where the system does not tell how much memory of a process is private."""
    pairs = points(size)
    runs = list(dict.fromkeys(p for more, least, _, _ in pairs for p in (least, more)))
    with tempfile.TemporaryDirectory() as folder:
        manifests = write_corpora(Path(folder), size)
        rounds = [{p: measured(Path(folder), manifests, p, size.memory) for p in runs} for _ in range(size.rounds)]
    return tuple(_line(pair, name, rounds, size) for pair in pairs for name in rounds[0][pair[0]])


def _line(
    pair: tuple[Point, Point, str, float], name: str, rounds: Sequence[Mapping[Point, Mapping[str, float]]], size: Size
) -> Growth:
    """One cost of one pair of runs."""
    more, least, of, times = pair
    a_values, b_values = (tuple(taken[point][name] for taken in rounds) for point in (more, least))
    promised = name == PRIVATE and of == "utterances"
    return Growth(
        benchmark=f"{name}, {more.form}, {of}",
        a=f"{times:.3g} x {of}",
        b=f"1 x {of}",
        unit=UNITS[name],
        a_values=a_values,
        b_values=b_values,
        note=f"{size.recordings[more.form] * more.utterances} utterances, {more.layers} layers, "
        f"{more.rates * more.seeds} candidates; --memory {size.memory // MIB}MiB",
        broken=broken_promise(a_values, b_values, size.memory) if promised else "",
        of=of,
        times=times,
    )


def broken_promise(more: Sequence[float], least: Sequence[float], budget: int) -> str:
    """What to say where a larger corpus takes more private memory, in MiB, than it may; else nothing."""
    apart = max(a - b for a, b in zip(more, least, strict=True))
    if apart <= budget / MIB:
        return ""
    return f"{apart:.0f} MiB of private memory more, with --memory {budget // MIB}MiB"


def measured(root: Path, manifests: Mapping[tuple[str, int], Path], point: Point, memory: int) -> dict[str, float]:
    """Run one point in a process of its own; what was seen of it, by name."""
    with tempfile.TemporaryDirectory(dir=root) as home:
        peak = peak_private([sys.executable, "-c", SUPERBENCH, *arguments(Path(home), manifests, point, memory)])
        result = json.loads(next(Path(home).rglob("result.json")).read_text(encoding="utf-8"))
        store = sum(f.stat().st_size for f in (Path(home) / "store").rglob("*") if f.is_file())
    found = {STEP: result["timings"]["train"] / point.steps, STORE: store / MIB}
    return found | ({PRIVATE: peak / MIB} if peak else {})


def arguments(home: Path, manifests: Mapping[tuple[str, int], Path], point: Point, memory: int) -> list[str]:
    """Of the command line."""
    given = {
        "--upstream": f"base_shaped:layers={point.layers}",
        "--task": "ks",
        "--data": str(manifests[point.form, point.utterances]),
        "--head": HEADS[point.form],
        "--steps": str(point.steps),
        "--eval-every": str(point.steps),
        "--lr": ",".join(f"{10.0 ** -(i + 1):g}" for i in range(point.rates)),
        "--seeds": f"0..{point.seeds - 1}",
        "--memory": f"{memory // MIB}MiB",
        "--device": "cpu",
    }
    plugins = [text for plugin in PLUGINS for text in ("-p", str(plugin))]
    return [*plugins, "--quiet", "--home", str(home), "run", *(text for pair in given.items() for text in pair)]


def peak_private(command: Sequence[str]) -> int:
    """Greatest anonymous resident set of a process, in bytes; 0 where the system does not tell."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    ended = threading.Event()
    peak = [0]

    def watch() -> None:
        while not ended.wait(POLLED):
            peak[0] = max(peak[0], private_bytes(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, said = process.communicate()
    ended.set()
    watcher.join()
    assert process.returncode == 0, said.decode()
    return peak[0]


def private_bytes(process: int) -> int:
    """Anonymous resident set of a process now, in bytes; 0 where the system does not tell, or it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:"))


def write_corpora(root: Path, size: Size) -> dict[tuple[str, int], Path]:
    """Noise with labels: manifests of 1, 4, ... times as many recordings to train on."""
    found = {}
    for form, recordings in size.recordings.items():
        most = recordings * max(size.utterances) + 2 * HELD_OUT
        for i, wave in enumerate(encoder.waves(most, size.seconds[form], shortest=0.9)):
            soundfile.write(root / f"{form}{i}.wav", wave.clamp(-1, 1).numpy(), encoder.RATE)
        row = partial(_row, form)
        for times in (1, *size.utterances):
            manifest = root / f"{form}-{times}.csv"
            with manifest.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream)
                writer.writerow(("path", "split", "speaker", "label"))
                writer.writerows(row(i, ("dev", "test")[i % 2]) for i in range(2 * HELD_OUT))
                writer.writerows(row(2 * HELD_OUT + i, "train") for i in range(recordings * times))
            found[form, times] = manifest
    return found


def _row(form: str, i: int, split: str) -> tuple[str, str, str, str]:
    return (f"{form}{i}.wav", split, f"{split} speaker", ("yes", "no")[i // 2 % 2])
