"""A run that could start: opened, checked, resolved into a frozen plan; nothing computed yet."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch

from superbench import corpus as corpora
from superbench.contracts import Corpus, Partition, Settings, sha256_of
from superbench.errors import ContractError, UsageError
from superbench.features.extraction import LoadedUpstream, in_dtype, plugin_guard
from superbench.features.identity import code_sha, source_of
from superbench.features.passes import Need, need, readable_layers
from superbench.features.reduction import Form
from superbench.features.weighted_sum import Probe
from superbench.labels import Labels
from superbench.options import build_options, format_reference, split_reference
from superbench.pipeline.opening import divide, open_corpus, require_corpus
from superbench.pipeline.placement import Placement, place
from superbench.plan import OURS, RunPlan, RunRequest, departures, resolve_protocol
from superbench.plugin import Decoder, DownstreamSpec, TaskProtocol, TaskSpec
from superbench.progress import Progress
from superbench.protocol import check_protocol
from superbench.recordings import KnownRecordings
from superbench.registry import Registered, Registry
from superbench.results import RESULT
from superbench.sampling import Pool, dev_draw
from superbench.sizes import bytes_said

TRAINING_CODE = (
    *(
        f"superbench.training.{room}"
        for room in ("objectives", "batches", "candidates", "prediction", "fitting", "memory")
    ),
    "superbench.dropout",
    "superbench.sampling",
    "superbench.augmentation",
    "superbench.pipeline.search",
    "superbench.features.weighted_sum",
    "superbench.features.examples",
    "superbench.labels",
    "superbench.metrics",
    "superbench.scoring",
    "superbench.corpus",
    "superbench.pipeline",
    "superbench.pipeline.outcome",
    "superbench.pipeline.prepared",
    "superbench.contracts",
)
GATHERED = 2_000_000  # parameters of heads that train in one step, at most: more of them leave a core's cache
LEAST_MEMORY = 2**20  # bytes
NO_CODE = ("departures.py", "synthesis/")  # of a task's package: decides no score
SCORING_CODE = ("superbench.metrics", "superbench.scoring")


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
    head: Registered[DownstreamSpec]
    head_options: Any
    layers: int  # that the head sums
    width: int
    folder: Path
    decoder: Decoder | None  # beside greedy decoding
    options: Any  # of the task
    placement: Placement  # of the features
    memory: int  # bytes of features that may be kept in memory

    def build(self) -> Probe:
        """A fresh head on a fresh weighted sum."""
        with plugin_guard(self.head_who):
            return Probe(self.layers, self.head.spec.build(self.head_options, self.width, self.labels.size))

    @property
    def candidates(self) -> Path:
        """Where candidates keep their state: runs that train alike share it."""
        return self.folder.parent / "candidates" / self.plan.training[:16]

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where each seed's result goes."""
        return tuple(self.folder / f"seed{seed}" for seed in self.plan.seeds)

    @property
    def finished(self) -> bool:
        """Is every seed's result there?"""
        return all((folder / RESULT).exists() for folder in self.folders)

    @property
    def form(self) -> Form:
        return self.need.form

    @property
    def threads(self) -> int | None:
        """Of the CPU in training: a step on time means is too small to share; None: as torch has it."""
        return 1 if self.plan.form == "pooled" else None

    @property
    def micro_batch(self) -> int:
        """Utterances at a time."""
        return self.plan.micro_batch

    @property
    def together(self) -> int:
        """Lanes (seeds, folds) whose candidates train in one step: several where heads are small and batches alike."""
        protocol = self.plan.protocol
        alike = protocol.sampling in ("shuffled", "balanced") and protocol.augment is None
        probe = self.build()
        if not (self.form.pooled and alike and probe.together is not None):
            return 1
        parameters = sum(p.numel() for p in probe.parameters()) * len(protocol.lr_grid)
        return max(1, GATHERED // parameters)

    def pool(self, indices: Sequence[int]) -> Pool:
        """What is drawn from: the recordings among some utterances, with the facts that sampling goes by."""
        utterances = self.corpus.utterances
        return Pool(
            items=self.corpus.items(indices),
            seconds=[u.seconds for u in utterances],
            targets=[self.labels.encode(u.reference) for u in utterances],
        )

    def selection(self, partition: Partition) -> list[int]:
        """Utterances of dev that the selection score counts, some more than once where dev is resampled."""
        return dev_draw(self.plan.protocol, self.pool(partition.dev), partition.name)

    @property
    def head_who(self) -> str:
        return f"head {self.head.spec.name!r} of {self.head.provenance}"


def prepare_all(
    request: RunRequest, registry: Registry, settings: Settings, loaded: LoadedUpstream, progress: Progress
) -> tuple[Prepared, ...]:
    """Resolve every task of a request, one beside the other."""
    found: list[Prepared] = []
    with KnownRecordings(settings.recordings, reread=request.reread, tell=progress.warn) as recordings:
        for task in request.task:
            found.append(prepare(request, task, registry, settings, loaded, recordings=recordings, beside=found))
    return tuple(found)


def prepare(
    request: RunRequest,
    task: str,
    registry: Registry,
    settings: Settings,
    loaded: LoadedUpstream,
    *,
    recordings: KnownRecordings | None = None,
    beside: Sequence[Prepared] = (),
) -> Prepared:
    """Resolve one task of a request into a frozen plan; everything that can be refused is refused here.

    `beside` are the tasks of the same command that were prepared before: the disk is to hold their features too.
    """
    found = registry.task(task)
    check_protocol(found.spec)
    own = found.spec.protocol
    spec = replace(found.spec, protocol=replace(own, head=_canonical(own.head, registry)))
    found = replace(found, spec=spec)
    protocol = resolve_protocol(spec, request)
    head_name, head_given = split_reference(request.head or protocol.head)
    registered = registry.downstream(head_name)
    head = registered.spec
    head_options = build_options(head.options, head_given, who=f"head {head_name}")
    wanted = "frames" if protocol.objective == "ctc" else "utterance"
    if head.gives != wanted:
        raise UsageError(
            f"task {task} wants one output per {wanted.removesuffix('s')}; head {head_name} gives one per "
            f"{head.gives.removesuffix('s')}",
            f"heads that fit: {', '.join(n for n, h in registry.downstreams.items() if h.spec.gives == wanted)}",
        )
    computed = "float64" if request.precision == "float64" else "float32"
    loaded = in_dtype(loaded, computed)
    dtype = request.store_dtype if head.reads == "frames" and computed == "float32" else computed
    form = Form(name=head.reads, dtype=dtype)
    rate = loaded.upstream.sample_rate
    if rate != protocol.sample_rate:
        raise ContractError(
            f"{loaded.who} wants {rate} Hz, task {task} is fed at {protocol.sample_rate} Hz",
            f"resample inside the upstream, and state sample_rate = {protocol.sample_rate}",
        )
    layers, width = readable_layers(loaded, form.name, request.layers)
    checked = open_corpus(spec, request, recordings)
    corpus, labels = require_corpus(checked, task)
    partitions = divide(spec, corpus)
    if request.limit is not None:
        corpus = corpora.limit(corpus, request.limit)
        partitions = divide(spec, corpus)
    shown_head = format_reference(head_name, head_options)
    blank = getattr(labels, "blank", None)
    if protocol.objective == "ctc" and (not isinstance(blank, int) or not 0 <= blank < labels.size):
        raise ContractError(
            f"task {task}: its labels state blank = {blank!r}, and have {labels.size} symbols",
            "a CTC vocabulary states the index of its blank: see superbench.labels.TokenLabels",
        )
    with plugin_guard(f"task {task!r}"):
        decoder = spec.decoder(checked.options, labels) if spec.decoder is not None else None
        _refuse_odd_decoder(decoder, task, protocol.objective)
        reasons = departures(
            found, request, corpus, protocol=protocol, head=shown_head, options=checked.options, dtype=dtype
        )
    if registered.provenance.distribution != OURS:
        reasons += (f"head {head_name} of {registered.provenance} is none of SUPERB's",)
    memory = _memory(request.memory)
    wanted_features = need(loaded, corpus.utterances, form)
    placement = place(
        wanted_features,
        settings.store,
        loaded.key,
        task=task,
        asked=request.store,
        memory=memory,
        beside=[(p.need, p.placement) for p in beside],
    )
    plan = RunPlan(
        task=task,
        task_version=spec.version,
        protocol=protocol,
        upstream=loaded.name,
        upstream_key=loaded.key,
        corpus_sha=corpus.sha,
        official=corpus.official,
        head=shown_head,
        form=form.name,
        dtype=dtype,
        precision=request.precision,
        streamed=placement.where == "streamed",
        micro_batch=_micro_batch(protocol, wanted_features, layers * width, memory),
        layers=request.layers,
        seeds=tuple(sorted(request.seeds)),
        limit=request.limit,
        device=loaded.device,
        score_train=request.score_train,
        code=_code(spec, head),
        division=_division(corpus, partitions),
        scorer=sha256_of([code_sha(*SCORING_CODE), importlib.metadata.version("jiwer")]),
        decoder=decoder.sha if decoder else "",
        departures=reasons,
    )
    slug = "".join(c if c.isalnum() or c in "._-" else "_" for c in loaded.name)[:80]
    prepared = Prepared(
        plan=plan,
        task=spec,
        corpus=corpus,
        labels=labels,
        partitions=partitions,
        loaded=loaded,
        need=wanted_features,
        head=registered,
        head_options=head_options,
        layers=layers,
        width=width,
        folder=settings.runs / task / slug / plan.fingerprint[:16],
        decoder=decoder,
        options=checked.options,
        placement=placement,
        memory=memory,
    )
    _try_head(prepared)
    return prepared


def _micro_batch(protocol: TaskProtocol, wanted: Need, values: int, memory: int) -> int:
    """Utterances at a time: time means of an effective batch; frames of a batch, or what a quarter of memory holds."""
    if wanted.form.pooled:
        return protocol.batch * protocol.accumulate
    utterance = (8 if wanted.form.dtype == "float64" else 4) * wanted.longest * values
    return max(1, min(protocol.batch, memory // 4 // max(1, utterance)))


def _memory(said: str) -> int:
    budget = bytes_said(said, "--memory")
    if budget < LEAST_MEMORY:
        raise UsageError(f"--memory {said} is too little to work in", "give 1MiB at least")
    return budget


def _refuse_odd_decoder(decoder: Any, task: str, objective: str) -> None:
    """A second decoding is a `Decoder` of a CTC task, with the fields it states."""
    if decoder is None:
        return
    if not isinstance(decoder, Decoder):
        raise ContractError(f"decoder of task {task} returned {decoder!r:.80}", "return a Decoder, or None")
    texts = (decoder.name, decoder.sha, *decoder.warnings)
    if not (all(isinstance(t, str) for t in texts) and is_dataclass(decoder.constants) and callable(decoder.decode)):
        raise ContractError(f"decoder of task {task} has odd fields: {decoder!r:.200}", "see superbench.plugin.Decoder")
    if objective != "ctc":
        raise ContractError(
            f"decoder of task {task}: only CTC is decoded, and its objective is {objective!r}", "leave it out"
        )


def _division(corpus: Corpus, partitions: tuple[Partition, ...]) -> str:
    """Hash of who is in train, dev and test."""
    ids = [u.id for u in corpus.utterances]
    return sha256_of([[[ids[i] for i in part] for part in (p.train, p.dev, p.test)] for p in partitions])


def _canonical(reference: str, registry: Registry) -> str:
    """A head as it is written where only what is not its default is said."""
    name, given = split_reference(reference)
    return format_reference(name, build_options(registry.downstream(name).spec.options, given, who=f"head {name}"))


def _code(task: TaskSpec, head: DownstreamSpec) -> str:
    """Hash of the source that turns features into a score: other code is another run, never an old result."""
    functions = (head.build, task.labels, task.complete, task.partitions, task.decoder)
    found = [source_of(f) for f in functions if f is not None]
    top = {module.partition(".")[0] for module, _ in found} - {"superbench"}
    modules = {m if m in sys.modules else next(n for n, _ in found if n.startswith(m)) for m in top}
    said = [text for module, texts in found if not module.startswith("superbench.") for text in texts]
    return sha256_of([said, code_sha(*TRAINING_CODE, *sorted(modules), without=NO_CODE)])


def _try_head(prepared: Prepared) -> None:
    """Call the head on two examples of zeros: what it gives must have the shape that the task trains on.

    What it says for several candidates at once must be what it says for each.
    """
    spec, classes, (batch, frames) = prepared.head.spec, prepared.labels.size, (2, 50)
    x = torch.zeros([batch, prepared.layers, *([frames] if spec.reads == "frames" else []), prepared.width])
    lengths = torch.tensor([frames, frames - 1]) if spec.reads == "frames" else None
    probe = prepared.build()
    with plugin_guard(prepared.head_who), torch.no_grad():
        found = list(probe(x, lengths).shape)
    expected = [batch, frames, classes] if spec.gives == "frames" else [batch, classes]
    if found != expected:
        raise ContractError(
            f"{prepared.head_who}: expected logits {expected} for {batch} utterances, got {found}",
            "return [B, classes] for one output per utterance, or [B, T, classes] for one per frame",
        )
    if probe.together is not None:
        _try_together(prepared, x, lengths)


def _try_together(prepared: Prepared, x: torch.Tensor, lengths: torch.Tensor | None) -> None:
    """Two heads of different weights, in training: what they say together, and its gradients, must be their own."""
    x = torch.linspace(-1, 1, x.numel(), dtype=torch.float64).view_as(x)
    with plugin_guard(prepared.head_who):
        probes = [prepared.build().double().train() for _ in range(2)]
        with torch.no_grad():
            for number, probe in enumerate(probes):
                for parameter in probe.parameters():  # the guard gives both the same random numbers
                    parameter.add_(
                        torch.linspace(number, 1 - 2 * number, parameter.numel()).view_as(parameter), alpha=0.1
                    )
        names = [name for name, _ in probes[0].named_parameters()]
        stacked = {n: torch.stack([p.get_parameter(n).detach() for p in probes]).requires_grad_() for n in names}
        assert probes[0].together is not None, "asked for by the caller"
        together, alone = probes[0].together(stacked, x, lengths), torch.stack([p(x, lengths) for p in probes])
        same = together.shape == alone.shape and torch.allclose(together, alone, rtol=1e-9, atol=1e-9)
        if same:
            weights = torch.linspace(-1, 2, alone.numel(), dtype=torch.float64).view_as(alone)
            torch.autograd.backward([(together * weights).sum(), (alone * weights).sum()])
            same = all(_same_gradients(stacked[n], [p.get_parameter(n) for p in probes]) for n in names)
    if not same:
        raise ContractError(
            f"{prepared.head_who}: `together` does not give two heads what each gives by itself in training, or not "
            "their gradients",
            "map parameters [C, ...] and x [C, B, ...] to logits [C, B, ...], each head's from its own parameters and "
            "nothing at random; or leave `together` out",
        )


def _same_gradients(stacked: torch.Tensor, own: Sequence[torch.nn.Parameter]) -> bool:
    zeros = torch.zeros_like(own[0])
    alone = torch.stack([zeros if p.grad is None else p.grad for p in own])
    together = torch.zeros_like(stacked) if stacked.grad is None else stacked.grad
    return torch.allclose(together, alone, rtol=1e-9, atol=1e-9)
