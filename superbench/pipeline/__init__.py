"""The main job on one page: corpus -> features -> training -> scoring -> result. It alone knows all stages."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from superbench import audio, scoring
from superbench.contracts import Prediction, Result, Settings, Utterance, canonical_json
from superbench.errors import SuperbenchError
from superbench.features.examples import StoredExamples
from superbench.features.passes import ensure
from superbench.features.store import FeatureStore
from superbench.metrics import DIRECTIONS
from superbench.pipeline.outcome import Found, make_result
from superbench.pipeline.prepared import Prepared
from superbench.pipeline.search import Search, run_search
from superbench.progress import Progress, duration
from superbench.registry import Registry
from superbench.results import RESULT, read_result, write_result, write_whole

CONSTANT = 1e-5  # pooled features that vary less than this between utterances are the same for every one


def read_wave(utterance: Utterance) -> Tensor:
    """The samples of an utterance as a float32 tensor [n]."""
    return torch.from_numpy(audio.read(utterance))


def run_prepared(prepared: Prepared, settings: Settings, progress: Progress) -> tuple[Result, ...]:
    """Walk the stages; one result per seed. A finished run is read back, one that was killed goes on."""
    plan = prepared.plan
    folders = [prepared.folder / f"seed{seed}" for seed in plan.seeds]
    if all((f / RESULT).exists() for f in folders):
        progress.say(f"{plan.task}: finished before, read from {prepared.folder}")
        return tuple(read_result(f) for f in folders)
    begun = time.monotonic()
    write_whole(prepared.folder / "plan.json", (canonical_json(plan.to_json()) + "\n").encode())
    store = FeatureStore(settings.store, plan.upstream_key, plan.form)
    with progress.stage(f"{plan.task}: {plan.form} features", len(prepared.need.segments)) as bar:
        counted = ensure(prepared.loaded, store, prepared.need, read_wave, bar)
    examples = StoredExamples(
        store,
        [u.content for u in prepared.corpus.utterances],
        [prepared.labels.encode(u.reference) for u in prepared.corpus.utterances],
        form=plan.form,
        layer=plan.layers,
        device=plan.device,
        bytes_in_all=prepared.need.bytes,
    )
    warnings = [*store.warnings, *_warnings(prepared, examples)]
    for warning in warnings:
        progress.say(f"warning: {plan.task}: {warning}")
    trained = time.monotonic()
    search = _search(prepared, examples)
    candidates, chosen = run_search(search, progress)
    scored = time.monotonic()
    found = Found(
        candidates=tuple(candidates),
        chosen=tuple(chosen),
        counted=counted,
        warnings=tuple(warnings),
        timings={"extract": counted.seconds, "train": scored - trained},
    )
    results = []
    for seed, folder in zip(plan.seeds, folders, strict=True):
        result = make_result(prepared, search, found, seed, folder)
        write_result(folder, result)
        results.append(result)
    progress.say(f"{plan.task}: done in {duration(time.monotonic() - begun)}, kept in {prepared.folder}")
    return tuple(results)


def _search(prepared: Prepared, examples: StoredExamples) -> Search:
    utterances, labels, protocol = prepared.corpus.utterances, prepared.labels, prepared.plan.protocol
    metric = protocol.metrics[0]

    def describe(index: int, hypothesis: tuple[int, ...], partition: str) -> Prediction:
        utterance = utterances[index]
        return Prediction(
            id=utterance.id,
            reference=utterance.reference,
            hypothesis=labels.decode(hypothesis),
            speaker=utterance.speaker,
            partition=partition,
        )

    return Search(
        protocol=protocol,
        seeds=prepared.plan.seeds,
        partitions=prepared.partitions,
        labels=labels,
        build=prepared.build,
        examples=examples,
        describe=describe,
        dev_score=lambda predictions: scoring.score(predictions, (metric,))[0].value,
        direction=DIRECTIONS[metric],
        device=prepared.plan.device,
        micro_batch=protocol.batch * (protocol.accumulate if prepared.plan.form == "pooled" else 1),
        folder=prepared.folder / "candidates",
    )


def _warnings(prepared: Prepared, examples: StoredExamples) -> list[str]:
    """What a reader of the score must know of the features."""
    found = []
    if prepared.plan.form == "pooled" and examples.spread() < CONSTANT:
        found.append(
            "the time means of the features are the same for every utterance (is each one mean-normalised?): "
            "the head sees a constant and can only guess the commonest class"
        )
    if prepared.plan.protocol.objective == "ctc":
        train = sorted({i for p in prepared.partitions for i in p.train})
        short = [i for i in train if ctc_frames(examples.targets[i]) > examples.lengths[i]]
        if short:
            found.append(f"{len(short)} of {len(train)} training utterances have fewer frames than CTC needs: no loss")
    return found


def ctc_frames(target: tuple[int, ...]) -> int:
    """Frames that CTC needs at least: one per symbol, and a blank between two equal ones."""
    return len(target) + sum(a == b for a, b in itertools.pairwise(target))


def announce(results: Sequence[Result], registry: Registry, settings: Settings) -> tuple[SuperbenchError, ...]:
    """Tell the listeners of every result. What a listener fails at costs nothing: the result is on disk."""
    return tuple(failure for result in results for failure in registry.announce(result, settings))
