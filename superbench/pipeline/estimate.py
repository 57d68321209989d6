"""What a prepared run would cost: bytes, upstream passes and time, measured on a moment of real work."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from superbench.features.batching import batch_samples
from superbench.features.examples import window
from superbench.features.extraction import PROBE_SAMPLES, extract, probe_waves
from superbench.features.reduction import Form
from superbench.pipeline.outcome import NORM_SAMPLE
from superbench.pipeline.prepared import Prepared
from superbench.sampling import sampler
from superbench.training.batches import MicroBatch, Order
from superbench.training.candidates import Candidates
from superbench.training.fitting import cpu_threads
from superbench.training.objectives import Targets

LONG = 1.0  # seconds of a step that is not timed twice


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Bytes are those of the features the run reads; seconds are extrapolated from a probe, as +-50 %."""

    layers: int
    segments: int
    missing: int  # segments that are still to go through the upstream
    encodings: int  # times that a segment goes through the upstream: `missing`, or more where features are streamed
    sound_seconds: float  # of them
    form: str
    where: str  # "disk", "memory" or "streamed"
    why: str
    passes: str  # of the upstream, and who shares them
    bytes: int
    disk_bytes: int  # that will be written
    disk_room: int  # bytes that may be
    extract_seconds: float
    candidates: int
    train_seconds: float


def estimate_all(prepared: Sequence[Prepared]) -> list[Estimate]:
    """The cost of each task of one command; a sound that an earlier one of them brings is no later one's."""
    heard: dict[tuple[Form, str], set[str]] = {}
    found = []
    for one in prepared:
        before = heard.setdefault((one.form, one.placement.where), set())
        found.append(estimate(one, frozenset(before)))
        before |= one.placement.missing if one.placement.where != "streamed" else set()
    return found


def estimate(prepared: Prepared, heard: frozenset[str] = frozenset()) -> Estimate:
    """Time one probe wave and one training step, and multiply. `heard`: contents of sounds that are there by then."""
    plan, need = prepared.plan, prepared.need
    placement = prepared.placement
    missing = [u for u in need.segments if u.content in placement.missing - heard]
    encodings, sound = len(missing), sum(u.seconds for u in missing)
    lanes = len(prepared.partitions) * len(plan.seeds)
    protocol = plan.protocol
    evaluated = sum(len(set(prepared.selection(p))) for p in prepared.partitions) / len(prepared.partitions)
    effective = protocol.batch * protocol.accumulate
    evaluations = protocol.steps / protocol.eval_every
    if placement.where == "streamed":
        encodings = _encodings(prepared)
        sound *= encodings / max(1, len(missing))
    waves = probe_waves()
    batches = [[wave] for wave in waves] if batch_samples(prepared.loaded) is None else [waves]
    begun = time.perf_counter()
    for batch in batches:
        extract(prepared.loaded, batch, ["probe"] * len(batch))
    per_second = (time.perf_counter() - begun) / (sum(PROBE_SAMPLES) / prepared.loaded.upstream.sample_rate)
    # an evaluation is a forward pass, about a third of a step, on the dev set in place of a batch
    steps = protocol.steps + evaluations * evaluated / effective / 3
    return Estimate(
        layers=prepared.layers,
        segments=len(need.segments),
        missing=len(missing),
        encodings=encodings,
        sound_seconds=sound,
        form=str(prepared.form),
        where=placement.where,
        why=placement.why,
        passes=placement.passes,
        bytes=need.bytes,
        disk_bytes=placement.bytes_missing,
        disk_room=placement.room,
        extract_seconds=sound * per_second,
        candidates=lanes * len(protocol.lr_grid),
        train_seconds=lanes * steps * _step_seconds(prepared),
    )


def _encodings(prepared: Prepared) -> int:
    """Times that segments go through the upstream in a streamed run.

    Counted to the first evaluation of the first lanes that train together, for the others are like them.
    """
    plan, protocol = prepared.plan, prepared.plan.protocol
    utterances, missing = prepared.corpus.utterances, prepared.placement.missing
    contents = [u.content for u in utterances]
    size = {u.content: prepared.form.held(s) for u, s in zip(prepared.need.segments, prepared.need.sizes, strict=True)}
    sizes = [size[content] for content in contents]

    def encoded(indices: Iterable[int]) -> int:
        return len(missing.intersection(contents[i] for i in indices))

    lanes = [(p, seed) for p in prepared.partitions for seed in plan.seeds]
    orders = [Order(seed=s, batches=sampler(protocol, prepared.pool(p.train), s)) for p, s in lanes]
    orders = orders[: prepared.together]
    trained = step = 0
    while step < protocol.eval_every:
        coming = ([i for order in orders for i in order.indices(s)] for s in range(step, protocol.eval_every))
        found = window(coming, contents, sizes, prepared.memory // 2)
        trained += encoded(found.wanted.values())
        if found.steps == 0:  # too much for the memory at once: every micro-batch for itself
            rows = [sorted(order.indices(step), key=lambda i: utterances[i].samples) for order in orders]
            for first in range(0, len(rows[0]), plan.micro_batch):
                trained += encoded(i for row in rows for i in row[first : first + plan.micro_batch])
        step += max(1, found.steps)
    total = trained / len(orders) * len(lanes) * protocol.steps / protocol.eval_every
    for partition, _ in lanes:
        total += encoded(prepared.selection(partition)) * protocol.steps / protocol.eval_every
        of_norms = sorted(partition.train, key=contents.__getitem__)[:NORM_SAMPLE]
        scored = [partition.dev, partition.test, of_norms]
        scored += [partition.test] if prepared.decoder else []
        scored += [[item[0] for item in prepared.corpus.items(partition.train)]] if plan.score_train else []
        total += sum(map(encoded, scored))
    return round(total)


def _step_seconds(prepared: Prepared) -> float:
    """One optimiser step of all learning rates of a seed, on features of the corpus's mean length."""
    plan, need = prepared.plan, prepared.need
    frames = max(1, need.frames // len(need.segments))
    batch = prepared.micro_batch
    grid = plan.protocol.lr_grid
    dtype = torch.float64 if plan.precision == "float64" else torch.float32
    with torch.random.fork_rng(devices=[]):
        models = [prepared.build().to(plan.device, dtype) for _ in grid]
    candidates = Candidates(models, grid, precision=plan.precision)
    candidates.train()
    references = [u.reference for u in prepared.corpus.utterances[:batch]]
    time_axis = [] if prepared.form.pooled else [frames]
    x = torch.zeros([prepared.layers, len(references), *time_axis, prepared.width], device=plan.device, dtype=dtype)
    parts = max(1, plan.protocol.batch * plan.protocol.accumulate // batch)
    micro = MicroBatch(
        x=x.transpose(0, 1),
        lengths=None if prepared.form.pooled else torch.full((len(references),), frames),
        targets=Targets.of([prepared.labels.encode(r) for r in references], plan.device),
        shares=torch.full((len(references),), 1 / len(references) / parts, dtype=dtype),
    )
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        with cpu_threads(prepared.threads):
            candidates.step(
                [micro] * parts,
                objective=plan.protocol.objective,
                blank=getattr(prepared.labels, "blank", 0),
                clip=plan.protocol.clip,
            )
        seconds.append(time.perf_counter() - begun)
        if seconds[0] > LONG:
            break  # what a first step costs more than others does not count
    return min(seconds)
