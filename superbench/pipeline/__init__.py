"""The main job on one page: corpus -> features -> training -> scoring -> result. It alone knows all stages."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence

from superbench import scoring
from superbench.contracts import Prediction, Result, Settings, canonical_json
from superbench.errors import SuperbenchError
from superbench.features.examples import FeatureExamples
from superbench.labels import TokenLabels
from superbench.metrics import DIRECTIONS
from superbench.pipeline.gathering import Features, Gathering, frames_first
from superbench.pipeline.outcome import Found, make_result
from superbench.pipeline.prepared import Prepared
from superbench.pipeline.search import Search, run_search
from superbench.progress import Progress, duration
from superbench.registry import Registry
from superbench.results import read_result, write_result
from superbench.sampling import sampler
from superbench.writing import sweep, write_whole

CONSTANT = 1e-5  # pooled features that vary less than this between utterances are the same for every one


def run_all(prepared: Sequence[Prepared], settings: Settings, progress: Progress) -> Iterator[tuple[Result, ...]]:
    """Run several tasks of one upstream: what is stored is computed first, frames before time means.

    No sound runs twice, but where features are streamed. What is kept in memory is computed when its task comes.
    """
    gathering = Gathering(settings, progress)
    gathered: dict[str, Features] = {}
    finished = {one.plan.fingerprint for one in prepared if one.finished}
    for one in frames_first(prepared):
        _keep_plan(one)
        if one.placement.where == "disk" and one.plan.fingerprint not in finished:
            gathered[one.plan.fingerprint] = gathering.gather(one)
    for one in prepared:
        if one.plan.fingerprint in finished:
            progress.say(f"{one.plan.task}: finished before, read from {one.folder}")
            results = tuple(read_result(f) for f in one.folders)
            for warning in results[0].warnings:
                progress.warn(f"{one.plan.task}: {warning}")
            yield results
        else:
            features = gathered.pop(one.plan.fingerprint, None) or gathering.gather(one)
            yield run_prepared(one, features, progress)


def _keep_plan(prepared: Prepared) -> None:
    """Write the plan beside what will follow from it, and delete what a run that was killed left half-written."""
    for folder in (prepared.folder, prepared.candidates, *prepared.folders):
        sweep(folder)
    path, text = prepared.folder / "plan.json", (canonical_json(prepared.plan.to_json()) + "\n").encode()
    if not path.exists() or path.read_bytes() != text:
        write_whole(path, text)


def run_prepared(prepared: Prepared, features: Features, progress: Progress) -> tuple[Result, ...]:
    """Train on gathered features and score; one result per seed. A run that was killed goes on where it was."""
    plan, folders = prepared.plan, prepared.folders
    begun = time.monotonic()
    examples = features.examples(prepared)
    warnings = [*features.counted.warnings, *_warnings(prepared, examples)]
    for warning in warnings:
        progress.warn(f"{plan.task}: {warning}")
    training = time.monotonic()
    search = _search(prepared, examples)
    candidates, chosen = run_search(search, progress)
    scoring_from = time.monotonic()
    found = Found(
        candidates=tuple(candidates),
        chosen=tuple(chosen),
        count=features.count,
        warnings=tuple(warnings),
        timings={"extract": features.counted.seconds, "train": scoring_from - training},
    )
    results = []
    for seed, folder in zip(plan.seeds, folders, strict=True):
        result = make_result(prepared, search, found, seed, folder)
        write_result(folder, result)
        results.append(result)
    progress.say(f"{plan.task}: done in {duration(time.monotonic() - begun)}, kept in {prepared.folder}")
    return tuple(results)


def _search(prepared: Prepared, examples: FeatureExamples) -> Search:
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
        precision=prepared.plan.precision,
        together=prepared.together,
        folder=prepared.candidates,
    )


def _warnings(prepared: Prepared, examples: FeatureExamples) -> list[str]:
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
