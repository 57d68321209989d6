"""A run that could start: opened, checked, resolved into a frozen plan; nothing computed yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from superbench import corpus as corpora
from superbench.contracts import Corpus, Partition, Settings
from superbench.errors import UsageError
from superbench.features.extraction import LoadedUpstream
from superbench.features.passes import Need, need, readable_layers
from superbench.features.weighted_sum import Probe
from superbench.labels import Labels
from superbench.options import build_options, format_reference, split_reference
from superbench.pipeline.opening import open_corpus, require_corpus
from superbench.plan import RunPlan, RunRequest, departures, resolve_protocol
from superbench.plugin import DownstreamSpec, TaskSpec
from superbench.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that could start: everything opened and checked, nothing computed."""

    plan: RunPlan
    task: TaskSpec
    corpus: Corpus
    labels: Labels
    partitions: tuple[Partition, ...]
    loaded: LoadedUpstream
    need: Need
    head: DownstreamSpec
    head_options: Any
    layers: int  # that the head sums
    width: int
    folder: Path

    def build(self) -> Probe:
        """A fresh head on a fresh weighted sum."""
        return Probe(self.layers, self.head.build(self.head_options, self.width, self.labels.size))


def prepare(request: RunRequest, task: str, registry: Registry, settings: Settings, loaded: LoadedUpstream) -> Prepared:
    """Resolve one task of a request into a frozen plan; everything that can be refused is refused here."""
    spec = registry.task(task).spec
    protocol = resolve_protocol(spec, request)
    head_name, head_given = split_reference(request.head or protocol.head)
    head = registry.downstream(head_name).spec
    head_options = build_options(head.options, head_given, who=f"head {head_name}")
    wanted = "frames" if protocol.objective == "ctc" else "utterance"
    if head.gives != wanted:
        raise UsageError(
            f"task {task} wants one output per {wanted.removesuffix('s')}; head {head_name} gives one per "
            f"{head.gives.removesuffix('s')}",
            f"heads that fit: {', '.join(n for n, h in registry.downstreams.items() if h.spec.gives == wanted)}",
        )
    form = head.reads
    layers, width = readable_layers(loaded, form, request.layers)
    corpus, labels = require_corpus(open_corpus(spec, request), task)
    partitions = corpora.partitions(spec, corpus)
    if request.limit is not None:
        corpus = corpora.limit(corpus, request.limit)
        partitions = corpora.partitions(spec, corpus)
    shown_head = format_reference(head_name, head_options)
    plan = RunPlan(
        task=task,
        task_version=spec.version,
        protocol=protocol,
        upstream=loaded.name,
        upstream_key=loaded.key,
        corpus_sha=corpus.sha,
        official=corpus.official,
        head=shown_head,
        form=form,
        layers=request.layers,
        seeds=tuple(sorted(request.seeds)),
        limit=request.limit,
        device=loaded.device,
        score_train=request.score_train,
        departures=departures(spec, protocol, shown_head, request, corpus),
    )
    slug = "".join(c if c.isalnum() or c in "._-" else "_" for c in loaded.name)[:80]
    return Prepared(
        plan=plan,
        task=spec,
        corpus=corpus,
        labels=labels,
        partitions=partitions,
        loaded=loaded,
        need=need(loaded, corpus.utterances, form),
        head=head,
        head_options=head_options,
        layers=layers,
        width=width,
        folder=settings.runs / task / slug / plan.fingerprint[:16],
    )
