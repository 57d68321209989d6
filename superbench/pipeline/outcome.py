"""From chosen heads to a result: predictions, scores, what the layers counted, and where it all came from."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save

from superbench import scoring
from superbench.contracts import (
    Candidate,
    FeatureCount,
    Prediction,
    Result,
    Score,
    Utterance,
    canonical_json,
    sha256_of,
)
from superbench.environment import environment
from superbench.features.extraction import plugin_guard
from superbench.features.identity import file_sha
from superbench.features.weighted_sum import layer_weights, norm_corrected
from superbench.labels import TokenLabels
from superbench.pipeline.prepared import Prepared
from superbench.pipeline.search import Chosen, Search
from superbench.results import SCHEMA, prediction_lines, write_files
from superbench.training.fitting import cpu_threads
from superbench.training.prediction import log_probabilities
from superbench.vetting import vet

NORM_SAMPLE = 64  # utterances of the training set over which layer norms are averaged


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the stages before scoring found, for all seeds."""

    candidates: tuple[Candidate, ...]
    chosen: tuple[Chosen, ...]
    count: Callable[[], FeatureCount]  # of the features, up to now
    warnings: tuple[str, ...]
    timings: dict[str, float]


def make_result(prepared: Prepared, search: Search, found: Found, seed: int, folder: Path) -> Result:
    """Score the chosen heads of one seed, write what they said, and tell everything that led there."""
    begun, plan, metrics = time.monotonic(), prepared.plan, prepared.plan.protocol.metrics
    mine = [c for c in found.chosen if c.fitted.seed == seed]
    test = _predict(prepared, search, mine, "test")
    dev = _predict(prepared, search, mine, "dev")
    train = _predict(prepared, search, mine, "train") if plan.score_train else []
    decoded, decoded_scores = _decoded(prepared, search, mine)
    files = {
        "predictions.jsonl": prediction_lines(test),
        "predictions.dev.jsonl": prediction_lines(dev),
        "head.safetensors": _head_bytes(prepared, mine),
        **decoded,
    }
    weights = {c.partition.name: layer_weights(c.model) for c in mine}
    norms = {c.partition.name: search.examples.layer_norms(_spread(prepared, c.partition.train)) for c in mine}
    lrs = {c.fitted.lr for c in mine}
    counted = found.count()
    return Result(
        schema=SCHEMA,
        run_id=sha256_of([plan.fingerprint, seed]),
        group=plan.fingerprint,
        label=plan.label,
        departures=plan.departures,
        task=plan.task,
        task_version=plan.task_version,
        protocol_sha=plan.protocol_sha,
        upstream=plan.upstream,
        upstream_plugin=prepared.loaded.provenance,
        upstream_key=plan.upstream_key,
        upstream_fingerprint=prepared.loaded.fingerprint,
        seed=seed,
        lr=lrs.pop() if len(lrs) == 1 else None,
        layers="all" if plan.layers is None else str(plan.layers),
        head=plan.head,
        scores=(*scoring.score_partitions(test, metrics), *decoded_scores),
        dev_scores=scoring.score_partitions(_as_selected(prepared, mine, dev), metrics),
        train_scores=scoring.score_partitions(train, metrics) if train else (),
        fold_scores=scoring.by_partition(test, metrics[0]),
        candidates=tuple(c for c in found.candidates if c.seed == seed),
        layer_weights=weights,
        layer_weights_norm_corrected={name: norm_corrected(w, norms[name]) for name, w in weights.items()},
        features=counted,
        data=_data_facts(prepared),
        plan=plan.to_json(),
        environment=environment(plan.device),
        timings={**found.timings, "score": time.monotonic() - begun},
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        folder=str(folder),
        warnings=(*found.warnings, *(w for w in counted.warnings if w not in found.warnings)),
        decoder=_decoder_facts(prepared),
        files=write_files(folder, files),
    )


def _decoder_facts(prepared: Prepared) -> dict[str, Any]:
    decoder = prepared.decoder
    return {"name": decoder.name, "sha": decoder.sha, **asdict(decoder.constants)} if decoder else {}


def _spread(prepared: Prepared, train: Sequence[int]) -> list[int]:
    """Some training utterances, spread over the corpus: the first in the order of their sounds' hashes."""
    return sorted(train, key=lambda i: prepared.corpus.utterances[i].content)[:NORM_SAMPLE]


def _predict(prepared: Prepared, search: Search, chosen: Sequence[Chosen], split: str) -> list[Prediction]:
    """Predictions of the chosen heads on one split, complete or an error."""
    found = []
    for one in chosen:
        indices: Sequence[int] = getattr(one.partition, split)
        if split == "train":  # of a bank of crops, one speaks for the recording
            indices = [item[0] for item in prepared.corpus.items(indices)]
        predictions = search.predictions(one.model, indices, one.partition.name)
        scoring.complete(predictions, [prepared.corpus.utterances[i].id for i in indices])
        found += predictions
    return found


def _as_selected(prepared: Prepared, chosen: Sequence[Chosen], dev: Sequence[Prediction]) -> list[Prediction]:
    """The predictions of dev as the selection counts them: some more than once where dev is resampled."""
    said = {(p.partition, p.id): p for p in dev}
    utterances = prepared.corpus.utterances
    return [said[one.partition.name, utterances[i].id] for one in chosen for i in prepared.selection(one.partition)]


def _decoded(
    prepared: Prepared, search: Search, chosen: Sequence[Chosen]
) -> tuple[dict[str, bytes], tuple[Score, ...]]:
    """The test set decoded a second way, where the task has one, as a file and as scores named after the decoder."""
    decoder, labels = prepared.decoder, prepared.labels
    if decoder is None or not isinstance(labels, TokenLabels):
        return {}, ()
    found = []
    for one in chosen:
        for i in one.partition.test:
            with plugin_guard(f"decoder {decoder.name!r} of task {prepared.plan.task}"), cpu_threads(search.threads):
                text = decoder.decode(log_probabilities(one.model, search.examples, i))
            said = labels.encode(text)[: -len(labels.ending) or None]
            found.append(search.describe(i, said, one.partition.name))
    scores = scoring.score_partitions(found, prepared.plan.protocol.metrics)
    named = tuple(replace(s, metric=f"{s.metric}_{decoder.name}") for s in scores)
    return {f"predictions.{decoder.name}.jsonl": prediction_lines(found)}, named


def _files(options: Any) -> list[dict[str, str]]:
    """Every file and folder that the task's options name (lexicons, language model, lists), with its SHA-256."""
    values = [v for given in asdict(options).values() for v in (given if isinstance(given, tuple) else (given,))]
    paths = [Path(v) for v in values if isinstance(v, str) and v and Path(v).exists()]
    return [{"name": path.name, "sha256": file_sha(path)} for path in paths]


def _head_bytes(prepared: Prepared, chosen: Sequence[Chosen]) -> bytes:
    """The trained heads as one safetensors file: PARTITION/PARAMETER, and what is needed to build them again."""
    tensors = {
        f"{c.partition.name}/{name}": tensor.detach().cpu().contiguous()
        for c in chosen
        for name, tensor in c.model.state_dict().items()
    }
    facts = {
        "head": prepared.plan.head,
        "layers": prepared.layers,
        "width": prepared.width,
        "labels": list(prepared.labels.names),
        "upstream_key": prepared.plan.upstream_key,
    }
    # one entry: safetensors writes several in an order that differs from process to process
    written: bytes = save(tensors, metadata={"superbench": canonical_json(facts)})
    return written


def _data_facts(prepared: Prepared) -> dict[str, Any]:
    corpus = prepared.corpus
    splits: dict[str, list[Utterance]] = {}
    for utterance in corpus.utterances:
        splits.setdefault(f"fold {utterance.fold}" if utterance.fold else utterance.split, []).append(utterance)
    return {
        "sha": corpus.sha,
        "official": corpus.official,
        "resampler": corpus.resampler,
        "left_out": corpus.left_out,
        "vetting": str(vet(corpus, prepared.task.protocol)),
        "files": _files(prepared.options),
        "classes": list(prepared.labels.names),
        "splits": {
            name: {
                "utterances": len(us),
                "recordings": len({u.bank or u.id for u in us}),
                "hours": round(sum(u.seconds for u in us) / 3600, 6),
                "speakers": len({u.speaker for u in us if u.speaker}),
            }
            for name, us in sorted(splits.items())
        },
        "warnings": [asdict(w) for w in corpus.warnings],
    }
