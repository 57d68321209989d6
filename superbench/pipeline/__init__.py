"""The main job on one page: corpus -> features -> training -> scoring -> result. It alone knows all stages."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from superbench import audio, scoring
from superbench.contracts import FeatureCount, Prediction, Result, Settings, Utterance, canonical_json
from superbench.errors import SuperbenchError
from superbench.features.examples import StoredExamples
from superbench.features.passes import ensure
from superbench.features.store import FeatureStore, store_folder
from superbench.labels import TokenLabels
from superbench.metrics import DIRECTIONS
from superbench.pipeline.outcome import Found, make_result
from superbench.pipeline.prepared import Prepared
from superbench.pipeline.search import Search, run_search
from superbench.progress import Progress, duration
from superbench.registry import Registry
from superbench.results import read_result, write_result
from superbench.sampling import sampler
from superbench.writing import write_whole

CONSTANT = 1e-5  # pooled features that vary less than this between utterances are the same for every one


def read_wave(utterance: Utterance) -> Tensor:
    """The samples of an utterance as a float32 tensor [n]."""
    return torch.from_numpy(audio.read(utterance))


def run_all(prepared: Sequence[Prepared], settings: Settings, progress: Progress) -> Iterator[tuple[Result, ...]]:
    """Run several tasks of one upstream: all features first, frames before time means, so that no sound runs twice."""
    counted: dict[str, FeatureCount] = {}
    for one in sorted(prepared, key=lambda p: p.plan.form != "frames"):
        if not one.finished:
            counted[one.plan.fingerprint] = extract_features(one, settings, progress)
    for one in prepared:
        if one.finished:
            progress.say(f"{one.plan.task}: finished before, read from {one.folder}")
            results = tuple(read_result(f) for f in one.folders)
            for warning in results[0].warnings:
                progress.warn(f"{one.plan.task}: {warning}")
            yield results
        else:
            yield run_prepared(one, counted[one.plan.fingerprint], settings, progress)


def extract_features(prepared: Prepared, settings: Settings, progress: Progress) -> FeatureCount:
    """Bring into the store what one run needs and what is not there."""
    plan = prepared.plan
    write_whole(prepared.folder / "plan.json", (canonical_json(plan.to_json()) + "\n").encode())
    store = FeatureStore(settings.store, plan.upstream_key, plan.form)
    frames = None
    if plan.form == "pooled" and store_folder(settings.store, plan.upstream_key, "frames").is_dir():
        frames = FeatureStore(settings.store, plan.upstream_key, "frames")
    with progress.stage(f"{plan.task}: {plan.form} features", len(prepared.need.segments)) as bar:
        return ensure(prepared.loaded, store, prepared.need, read_wave, bar=bar, frames=frames)


def run_prepared(
    prepared: Prepared, counted: FeatureCount, settings: Settings, progress: Progress
) -> tuple[Result, ...]:
    """Train on stored features and score; one result per seed. A run that was killed goes on where it was."""
    plan, folders = prepared.plan, prepared.folders
    begun = time.monotonic()
    store = FeatureStore(settings.store, plan.upstream_key, plan.form)
    examples = StoredExamples(
        store,
        [u.content for u in prepared.corpus.utterances],
        [prepared.labels.encode(u.reference) for u in prepared.corpus.utterances],
        form=plan.form,
        layer=plan.layers,
        device=plan.device,
        bytes_in_all=prepared.need.bytes,
    )
    warnings = [*counted.warnings, *_warnings(prepared, examples)]
    for warning in warnings:
        progress.warn(f"{plan.task}: {warning}")
    training = time.monotonic()
    search = _search(prepared, examples)
    candidates, chosen = run_search(search, progress)
    scoring_from = time.monotonic()
    found = Found(
        candidates=tuple(candidates),
        chosen=tuple(chosen),
        counted=counted,
        warnings=tuple(warnings),
        timings={"extract": counted.seconds, "train": scoring_from - training},
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

    units = labels.units if isinstance(labels, TokenLabels) else lambda _: ""

    def describe(index: int, hypothesis: tuple[int, ...], partition: str) -> Prediction:
        utterance = utterances[index]
        return Prediction(
            id=utterance.id,
            reference=utterance.reference,
            hypothesis=labels.decode(hypothesis),
            speaker=utterance.speaker,
            partition=partition,
            reference_units=units(examples.targets[index]),
            hypothesis_units=units(hypothesis),
        )

    return Search(
        protocol=protocol,
        seeds=prepared.plan.seeds,
        partitions=prepared.partitions,
        labels=labels,
        build=prepared.build,
        examples=examples,
        describe=describe,
        batches=lambda partition, seed: sampler(protocol, prepared.pool(partition.train), seed),
        selection=prepared.selection,
        dev_score=lambda predictions: scoring.score(predictions, (metric,))[0].value,
        direction=DIRECTIONS[metric],
        device=prepared.plan.device,
        threads=prepared.threads,
        micro_batch=prepared.micro_batch,
        folder=prepared.candidates,
    )


def _warnings(prepared: Prepared, examples: StoredExamples) -> list[str]:
    """What a reader of the score must know of the features and of the second decoding."""
    found = [*(prepared.decoder.warnings if prepared.decoder else ())]
    if prepared.plan.form == "pooled" and examples.spread() < CONSTANT:
        found.append(
            "the time means of the features are the same for every utterance (is each one mean-normalised?): "
            "the head sees a constant and can only guess the commonest class"
        )
    if prepared.labels.size == 1:
        found.append(f"there is one class only, {prepared.labels.names[0]!r}: every answer is right")
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
