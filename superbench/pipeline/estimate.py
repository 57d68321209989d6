"""What a prepared run would cost: bytes, upstream passes and time, measured on a moment of real work."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from superbench.contracts import Settings
from superbench.features.batching import batch_samples
from superbench.features.extraction import PROBE_SAMPLES, extract, probe_waves
from superbench.features.store import FeatureStore, store_folder
from superbench.pipeline.prepared import Prepared
from superbench.training import MicroBatch, cpu_threads, train_step


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Bytes are those of the features the run reads; seconds are extrapolated from a probe, as +-50 %."""

    layers: int
    segments: int
    missing: int  # segments that are still to go through the upstream
    sound_seconds: float  # of the missing segments
    bytes: int
    extract_seconds: float
    candidates: int
    train_seconds: float


def estimate(prepared: Prepared, settings: Settings) -> Estimate:
    """Time one probe wave and one training step, and multiply."""
    plan, need = prepared.plan, prepared.need
    contents = {u.content for u in need.segments}
    missing = contents
    if store_folder(settings.store, plan.upstream_key, plan.form).is_dir():
        missing = set(FeatureStore(settings.store, plan.upstream_key, plan.form).missing(contents))
    sound = sum(u.seconds for u in need.segments if u.content in missing)
    waves = probe_waves()
    batches = [[wave] for wave in waves] if batch_samples(prepared.loaded) is None else [waves]
    begun = time.perf_counter()
    for batch in batches:
        extract(prepared.loaded, batch, ["probe"] * len(batch))
    per_second = (time.perf_counter() - begun) / (sum(PROBE_SAMPLES) / prepared.loaded.upstream.sample_rate)
    candidates = len(prepared.partitions) * len(plan.seeds) * len(plan.protocol.lr_grid)
    evaluated = sum(len(set(prepared.selection(p))) for p in prepared.partitions) / len(prepared.partitions)
    effective = plan.protocol.batch * plan.protocol.accumulate
    evaluations = plan.protocol.steps / plan.protocol.eval_every
    # an evaluation is a forward pass, about a third of a step, on the dev set in place of a batch
    steps = plan.protocol.steps + evaluations * evaluated / effective / 3
    return Estimate(
        layers=prepared.layers,
        segments=len(need.segments),
        missing=len(missing),
        sound_seconds=sound,
        bytes=need.bytes,
        extract_seconds=sound * per_second,
        candidates=candidates,
        train_seconds=candidates * steps * _step_seconds(prepared),
    )


def _step_seconds(prepared: Prepared) -> float:
    """One optimiser step of a fresh head on features of the corpus's mean length."""
    plan, need = prepared.plan, prepared.need
    frames = max(1, need.frames // len(need.segments))
    batch = prepared.micro_batch
    with torch.random.fork_rng(devices=[]):
        model = prepared.build().to(plan.device).train()
        time_axis = [frames] if plan.form == "frames" else []
        x = torch.zeros([batch, prepared.layers, *time_axis, prepared.width], device=plan.device)
    lengths = torch.full((batch,), frames) if plan.form == "frames" else None
    targets = [prepared.labels.encode(u.reference) for u in prepared.corpus.utterances[:batch]]
    parts = plan.protocol.batch * plan.protocol.accumulate // batch
    micro = MicroBatch(
        x=x[: len(targets)],
        lengths=lengths[: len(targets)] if lengths is not None else None,
        targets=targets,
        weight=1 / parts,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        with cpu_threads(prepared.threads):
            train_step(
                model,
                optimizer,
                [micro] * parts,
                objective=plan.protocol.objective,
                blank=getattr(prepared.labels, "blank", 0),
                clip=plan.protocol.clip,
            )
        seconds.append(time.perf_counter() - begun)
    return min(seconds)
