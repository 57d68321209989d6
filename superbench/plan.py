"""One run, resolved: what was asked, with every default filled in; frozen, hashed, and labelled for what it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from superbench.contracts import Corpus, sha256_of
from superbench.errors import ContractError, UsageError
from superbench.plugin import TaskProtocol, TaskSpec
from superbench.registry import Registered
from superbench.vetting import vet

LABEL = "superb"  # family of the protocols whose untouched runs earn it
OURS = "superbench"  # the distribution whose tasks and heads are SUPERB's


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What the options of `superbench run`, or the file of `--config`, say. Empty means: as the protocol has it."""

    upstream: str  # NAME or NAME:option=value,...
    task: tuple[str, ...]
    corpus: tuple[str, ...] = ()  # ROOT, or TASK=ROOT to override one
    data: tuple[str, ...] = ()  # CSV manifests, or TASK=CSV for one task's own
    data_root: str = ""  # what paths in CSV manifests are relative to; empty: each manifest's folder
    label_column: str = ""
    resample: bool = False
    lexicon: tuple[str, ...] = ()  # PATH for the tasks that take one, or TASK=PATH for one task
    lm: str = ""  # n-gram language model for ASR's second decoding
    meta: str = ""  # folder of ER's lists of turns
    lr: tuple[float, ...] = ()
    seeds: tuple[int, ...] = (0,)
    steps: int | None = None
    eval_every: int | None = None
    limit: int | None = None  # utterances per split
    layers: int | None = None  # one layer alone; None: the weighted sum of all
    head: str = ""
    device: str = "auto"
    score_train: bool = False
    store: Literal["auto", "frames", "pooled", "off"] = "auto"  # which features are stored, see `superbench run --help`
    store_dtype: Literal["float32", "float16", "bfloat16", "int8"] = "float32"  # of stored frames
    precision: Literal["float32", "float64", "bfloat16"] = "float32"  # of training; float64: of the features too
    memory: str = "4GiB"  # for features, in private memory
    reread: bool = False  # every recording, though it is unchanged since it was checked; no score depends on it

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense, all at once."""
        wrong = [f"{n} must be at least 1, got {v}" for n, v in self._counts().items() if v is not None and v < 1]
        wrong += [f"lr must be positive and finite, got {lr}" for lr in self.lr if not 0 < lr < float("inf")]
        wrong += [f"seeds must be from 0 to 2**63 - 1, got {s}" for s in self.seeds if not 0 <= s < 2**63]
        wrong += [
            f"{n} are given twice: {v}" for n, v in (("lr", self.lr), ("seeds", self.seeds)) if len(set(v)) < len(v)
        ]
        if not self.seeds:
            wrong.append("seeds must name at least one")
        if not self.task:
            wrong.append("task must name at least one")
        if self.layers is not None and self.layers < 0:
            wrong.append(f"layers must not be negative, got {self.layers}")
        if self.corpus and not all(_names_task(d) for d in self.data):
            wrong.append("give either corpus or data (or TASK=CSV for the tasks that have a manifest), not both")
        if self.precision == "float64" and self.store_dtype != "float32":
            wrong.append(f"precision float64 stores float64, not {self.store_dtype}")
        if sum(not _names_task(c) for c in self.corpus) > 1:
            wrong.append("one corpus root serves all tasks; give others as TASK=ROOT")
        if wrong:
            raise UsageError("; ".join(wrong), "see `superbench run --help`")

    def task_options(self, spec: TaskSpec) -> dict[str, Any]:
        """What of this request fills the task's own options."""
        given = {"lexicon": self._lexicons(spec.name), "lm": self.lm, "meta": self.meta}
        known = getattr(spec.options, "__dataclass_fields__", {})
        return {name: value for name, value in given.items() if value and name in known}

    def refuse_idle(self, specs: Sequence[TaskSpec]) -> None:
        """Refuse options of a task that none of the tasks takes."""
        taken = {name for spec in specs for name in getattr(spec.options, "__dataclass_fields__", {})}
        asked = {spec.name for spec in specs}
        for name, _, path in (x.partition("=") for x in self.lexicon if _names_task(x)):
            if name not in asked:
                raise UsageError(f"--lexicon {name}={path}: {name} is none of the tasks", f"add --task {name}")
        idle = [name for name in ("lexicon", "lm", "meta") if getattr(self, name) and name not in taken]
        if idle:
            names = ", ".join(spec.name for spec in specs)
            raise UsageError(
                f"{' and '.join(f'--{name}' for name in idle)}: no use in {names}",
                "--lexicon is for pr and asr, --lm for asr, --meta for er",
            )

    def _lexicons(self, task: str) -> tuple[str, ...]:
        """The lexicons of one task: its own (TASK=PATH), else those given for all."""
        own = tuple(x.partition("=")[2] for x in self.lexicon if _names_task(x) and x.startswith(f"{task}="))
        return own or tuple(x for x in self.lexicon if not _names_task(x))

    def _counts(self) -> dict[str, int | None]:
        return {"steps": self.steps, "eval_every": self.eval_every, "limit": self.limit}

    def corpus_root(self, task: str) -> str:
        """The root given for one task: TASK=ROOT wins over ROOT; empty where none is given."""
        overrides = dict(c.split("=", 1) for c in self.corpus if _names_task(c))
        return overrides.get(task) or next((c for c in reversed(self.corpus) if not _names_task(c)), "")

    @property
    def named_tasks(self) -> tuple[str, ...]:
        """Tasks that corpora, manifests and lexicons are given for by name."""
        return tuple(c.partition("=")[0] for c in (*self.corpus, *self.data, *self.lexicon) if _names_task(c))

    def manifests(self, task: str) -> tuple[str, ...]:
        """The CSV manifests of one task: its own (TASK=CSV), else those given for all."""
        own = tuple(d.partition("=")[2] for d in self.data if _names_task(d) and d.startswith(f"{task}="))
        return own or tuple(d for d in self.data if not _names_task(d))


def _names_task(corpus: str) -> bool:
    name, equals, _ = corpus.partition("=")
    return bool(equals) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", name) is not None


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """Everything that decides a score. Equal fingerprints mean equal predictions on the same kind of machine."""

    task: str
    task_version: str
    protocol: TaskProtocol  # with the steps, interval and grid that are really run
    upstream: str
    upstream_key: str
    corpus_sha: str
    official: bool
    head: str  # with every option that is not its default
    form: str  # "pooled" or "frames"
    dtype: str  # that features are stored as
    precision: str  # of training
    streamed: bool  # features are computed as they are wanted, in other batches than those of a store
    micro_batch: int  # utterances that go through the head at a time
    layers: int | None
    seeds: tuple[int, ...]
    limit: int | None
    device: str
    score_train: bool
    division: str  # hash of who is in train, dev and test
    scorer: str  # hash of the metrics' source and the version of jiwer
    code: str  # hash of the source of head, task, training, decoding and scoring
    decoder: str  # hash of the second decoder's constants and files; empty: greedy alone
    departures: tuple[str, ...]  # why this is not SUPERB's own protocol

    @property
    def label(self) -> str:
        """`superb` iff nothing departs from the protocol; computed, never claimed."""
        return "custom" if self.departures else "superb"

    @property
    def protocol_sha(self) -> str:
        """Hash of what makes two rows comparable: protocol, search grid and head. The seeds are no part of it."""
        return sha256_of(
            [
                self.task,
                self.task_version,
                asdict(self.protocol),
                self.head,
                self.form,
                self.dtype,
                self.precision,
                self.limit,
                self.division,
                self.scorer,
            ]
        )

    @property
    def fingerprint(self) -> str:
        """Hash of the whole plan; names its folder. What the upstream is called does not matter, what it is does."""
        return sha256_of({k: v for k, v in self.to_json().items() if k != "upstream"})

    @property
    def training(self) -> str:
        """Hash of what decides a trained candidate: runs that differ in their grid, seeds or decoding share them."""
        apart = ("upstream", "departures", "decoder", "score_train", "seeds")
        trained = replace(self, protocol=replace(self.protocol, lr_grid=()))
        return sha256_of({k: v for k, v in trained.to_json().items() if k not in apart})

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return asdict(self)


def resolve_protocol(spec: TaskSpec, request: RunRequest) -> TaskProtocol:
    """The task's protocol with what the request changes of it.

    Fewer steps shrink the interval between evaluations in proportion, down to a twentieth of the steps.
    """
    own = spec.protocol
    steps = request.steps or own.steps
    shrunk = max(1, round(own.eval_every * steps / own.steps), -(-steps // 20))
    interval = request.eval_every or (own.eval_every if steps == own.steps else shrunk)
    return replace(own, steps=steps, eval_every=min(interval, steps), lr_grid=tuple(sorted(request.lr or own.lr_grid)))


def departures(
    task: Registered[TaskSpec],
    request: RunRequest,
    corpus: Corpus,
    *,
    protocol: TaskProtocol,
    head: str,
    options: Any,
    dtype: str = "float32",
) -> tuple[str, ...]:
    """Each reason why a row is `custom`, in words; none makes it `superb`."""
    spec, own = task.spec, task.spec.protocol
    changed: Mapping[str, tuple[Any, Any]] = {
        "steps": (own.steps, protocol.steps),
        "evaluation interval": (own.eval_every, protocol.eval_every),
        "learning-rate grid": (tuple(sorted(own.lr_grid)), protocol.lr_grid),
        "head": (own.head, head),
        "precision": ("float32", request.precision),
        "stored frames": ("float32", dtype if request.precision != "float64" else "float32"),
    }
    reasons = [
        f"{what}: {given} in place of {official}" for what, (official, given) in changed.items() if official != given
    ]
    if own.family != LABEL or task.provenance.distribution != OURS:
        reasons.append(f"task {spec.name} of {task.provenance} is none of SUPERB's")
    if not corpus.official:
        reasons.append("data: CSV manifests in place of the official corpus")
    elif (vetting := vet(corpus, own)).verdict == "unknown":
        reasons.append("the task states no official sizes (protocol.sizes) to vet the corpus by")
    elif vetting.verdict != "complete":
        reasons.append(f"official corpus {vetting}")
    if spec.deviations is not None and corpus.official:
        deviations = spec.deviations(options)
        if not (isinstance(deviations, list | tuple) and all(isinstance(d, str) for d in deviations)):
            raise ContractError(
                f"deviations of task {spec.name} returned {deviations!r:.100}", "return a list of texts"
            )
        reasons += deviations
    if request.label_column:
        reasons.append(f"labels from the column {request.label_column!r}")
    if request.limit is not None:
        reasons.append(f"limited to {request.limit} utterances per split")
    if request.layers is not None:
        reasons.append(f"layer {request.layers} alone in place of the weighted sum")
    if corpus.resampler:
        reasons.append(f"resampled: {corpus.resampler}")
    if corpus.left_out and not corpus.official:
        reasons.append(f"{corpus.left_out} rows without a label left out")
    return tuple(reasons)
