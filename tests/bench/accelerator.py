"""On a GPU: an encoder of base size in bfloat16 against float32, and all learning rates together against one by one.

Without a GPU it says so on stderr and has no lines. Sounds per second and steps per second are in the notes. Heads are
those of SUPERB, on features of a base encoder in the GPU's memory, at the official batch. bfloat16 is not exact: what
it does to features is measured by `upstream_speed`.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click
import torch
from torch import Tensor, nn

from superbench.features.batching import batch_samples, form_batches
from superbench.features.extraction import LoadedUpstream
from superbench.features.weighted_sum import Probe
from superbench.plugin import TaskSpec
from superbench.training.batches import MicroBatch
from superbench.training.candidates import Candidates
from superbench.training.objectives import Targets
from superbench_downstreams.blstm import BlstmHead
from superbench_downstreams.linear import LinearHead
from superbench_tasks import asr, ks, pr, sid

from . import encoder, our_manner
from .comparison import Comparison, alternate, seconds
from .contest import CLASSES, LABELS, RATES
from .official import FRAMES, UTTERANCE
from .upstream_speed import Contest

TASKS = (ks.TASK, sid.TASK, pr.TASK, asr.TASK)


@dataclass(frozen=True, kw_only=True)
class Size:
    shape: encoder.Shape
    recordings: int
    seconds: float  # of the longest recording
    hidden: int  # of ASR's head
    part: int  # of the official batch, 1/part at a time
    steps: int
    rounds: int


SMALL = Size(shape=encoder.BASE, recordings=128, seconds=12.7, hidden=1024, part=1, steps=10, rounds=3)
FULL = replace(SMALL, recordings=512, steps=50, rounds=5)


def compare(size: Size) -> tuple[Comparison, ...]:
    """Nothing without a GPU."""
    if not torch.cuda.is_available():
        click.echo("benchmark accelerator: skipped, there is no GPU that torch can use", err=True)
        return ()
    return measure(size, "cuda")


def measure(size: Size, device: str) -> tuple[Comparison, ...]:
    """Extraction on one line, then a line for each head."""
    return (_extraction(size, device), *(_steps(task, size, device) for task in TASKS))


def _extraction(size: Size, device: str) -> Comparison:
    with tempfile.TemporaryDirectory() as folder:
        encoder.random_encoder(Path(folder), size.shape)
        contest = Contest(Path(folder), device)
        ways = {name: contest.ours(dtype=name) for name in ("float32", "bfloat16")}
    sounds = encoder.waves(size.recordings, size.seconds)
    for loaded in ways.values():
        _hear(loaded, sounds[:2])  # warm up
    taken = alternate(
        {name: partial(_seconds, partial(_hear, loaded, sounds), device) for name, loaded in ways.items()}, size.rounds
    )
    length = sum(len(s) for s in sounds) / encoder.RATE
    return Comparison(
        benchmark=f"extraction on {device}",
        a="float32",
        b="bfloat16",
        unit="s",
        a_values=taken["float32"],
        b_values=taken["bfloat16"],
        note=f"{length:.0f} s of sound; seconds per second: "
        + ", ".join(f"{name} {length / statistics.median(values):.3g}" for name, values in taken.items()),
    )


def _hear(loaded: LoadedUpstream, sounds: list[Tensor]) -> None:
    """All sounds in the batches of the one pass."""
    named = encoder.utterances(sounds)
    by_id = dict(zip((u.id for u in named), sounds, strict=True))
    for batch in form_batches(named, batch_samples(loaded)):
        loaded.upstream([by_id[u.id].to(loaded.device) for u in batch])


def _steps(task: TaskSpec, size: Size, device: str) -> Comparison:
    """Steps of five learning rates, one after the other and together."""
    protocol = task.protocol
    layers, width = size.shape.layers + 1, size.shape.width
    micro_batches = _micro_batches(task, size, device)

    def head() -> nn.Module:
        if task.name == "asr":
            return BlstmHead(width, CLASSES["asr"], projector=size.hidden, hidden=size.hidden, layers=2, dropout=0.2)
        return LinearHead(width, CLASSES[task.name], projector=256)

    def build(lrs: tuple[float, ...]) -> Candidates:
        return our_manner.candidates_of(lambda: Probe(layers, head()), lrs, device)

    def step(candidates: Candidates) -> None:
        for _ in range(size.steps):
            candidates.step(micro_batches, objective=protocol.objective, blank=0, clip=protocol.clip)

    one, five = build(RATES[:1]), build(RATES)
    for candidates in (one, five):
        candidates.step(micro_batches, objective=protocol.objective, blank=0, clip=protocol.clip)  # warm up
    taken = alternate(
        {"one": partial(_seconds, lambda: step(one), device), "five": partial(_seconds, lambda: step(five), device)},
        size.rounds,
    )
    rates = {name: size.steps / statistics.median(values) for name, values in taken.items()}
    return Comparison(
        benchmark=f"head of {task.name} on {device}",
        a=f"{len(RATES)} learning rates one by one",
        b="together",
        unit="s",
        a_values=tuple(len(RATES) * t for t in taken["one"]),
        b_values=taken["five"],
        note=f"{size.steps} steps of {sum(len(m.targets) for m in micro_batches)} utterances; A is one learning rate, "
        f"times {len(RATES)}; steps per second: {rates['one']:.3g} of one, {rates['five']:.3g} of all together",
    )


def _micro_batches(task: TaskSpec, size: Size, device: str) -> list[MicroBatch]:
    """An official effective batch of noise, cut as the pipeline cuts it."""
    protocol = task.protocol
    pooled = protocol.objective != "ctc"
    utterances = max(1, protocol.batch * protocol.accumulate // size.part)
    parts = 1 if pooled else protocol.accumulate
    each = max(1, utterances // parts)
    frames = int(UTTERANCE * FRAMES / size.part)
    labels = 1 if pooled else max(1, int(LABELS[task.name] * UTTERANCE / size.part))
    drawn = torch.Generator().manual_seed(0)
    time_axis = [] if pooled else [frames]
    found = []
    for _ in range(parts):
        x = torch.randn([size.shape.layers + 1, each, *time_axis, size.shape.width], generator=drawn)
        rows = torch.randint(1, CLASSES[task.name], (each, labels), generator=drawn).tolist()
        found.append(
            MicroBatch(
                x=x.to(device).transpose(0, 1),  # layers lie first, as in batches of the pipeline
                lengths=None if pooled else torch.full((each,), frames),
                targets=Targets.of(rows, device),
                shares=torch.full((each,), 1 / each / parts),
            )
        )
    return found


def _seconds(work: partial[None], device: str) -> float:
    """Until the device has done it."""

    def done() -> None:
        work()
        if device != "cpu":
            torch.cuda.synchronize()

    return seconds(done)
