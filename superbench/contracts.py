"""The nouns: one frozen dataclass per arrow of the data. No torch is loaded here.

`Row` -> `Utterance` (in a `Corpus`) -> `Layers` -> `Frames` or `Pooled` -> `Prediction` -> `Score` -> `Result`.

Shape letters used across the code: B batch, L layers, T frames, D feature width, C classes, N utterances.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from superbench.errors import ContractError

if TYPE_CHECKING:
    import torch

SPLITS = ("train", "dev", "test")


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, no NaN. What is hashed is this text in UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_of(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where things live. Nothing ever deletes them unasked."""

    store: Path  # features, content-addressed
    runs: Path  # one folder per run
    database: str  # of the leaderboard: a SQLite file, or a SQLAlchemy URL
    recordings: Path | None = None  # file of what was found in recordings; None: nothing is remembered


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Who brought something: the plugin's name, its distribution and version, and the file it came from."""

    plugin: str
    distribution: str = ""
    version: str = ""
    file: str = ""

    def __str__(self) -> str:
        origin = f"{self.distribution} {self.version}".strip() or self.file
        return f"{self.plugin} ({origin})" if origin else self.plugin


@dataclass(frozen=True, kw_only=True)
class Crop:
    """How a recording is cut where it is longer: into a bank of crops, whose places follow from its id alone.

    A bank stands for one recording: training draws one of its crops each time the recording comes up.
    """

    seconds: float  # of each crop; a recording that is not longer is used whole
    bank: int  # crops per recording

    def __post_init__(self) -> None:
        """Refuse a crop of nothing, and a bank without a crop."""
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, int | float) or not 0 < self.seconds < 3600:
            raise ContractError(f"a crop of {self.seconds!r} s: above 0 and below 3600", "seconds=8.0, for example")
        if isinstance(self.bank, bool) or not isinstance(self.bank, int) or self.bank < 1:
            raise ContractError(f"a bank of {self.bank!r} crops: a whole number, at least 1", "bank=4, for example")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a corpus claims about one recording; nothing of it has been checked."""

    id: str
    path: Path  # absolute, or relative to the corpus root that comes with it
    split: str = ""  # train, dev or test; may be empty where `fold` is given
    fold: str = ""
    speaker: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)  # text, phones, speaker, label and every further column
    start: float | None = None  # seconds into the file; None: its beginning
    end: float | None = None  # seconds into the file; None: its end
    where: str = ""  # file and line that say so, for error messages
    crop: Crop | None = None  # of a training or dev recording: cut into a bank of crops; None: used whole


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What was found when the sound of one row, or one crop of it, was read: the facts of an `Utterance`."""

    path: Path  # absolute
    start: int  # first sample of the cut, at `native_rate`
    stop: int  # one past its last sample, at `native_rate`
    native_rate: int  # Hz, of the file
    samples: int  # as fed, at `rate`
    rate: int  # Hz, as fed
    content: str  # SHA-256 (hex) of the float32 little-endian samples as fed
    resampler: str = ""  # name, version and quality, where rates differ
    gain_db: float = 0.0  # by which the samples were turned up (or down) before they are fed


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One checked recording, as it is fed to an upstream."""

    id: str
    path: Path  # absolute
    start: int  # first sample of the cut, at `native_rate`
    stop: int  # one past its last sample, at `native_rate`
    native_rate: int  # Hz, of the file
    samples: int  # as fed, at `rate`
    rate: int  # Hz, as fed
    content: str  # SHA-256 (hex) of the float32 little-endian samples as fed
    split: str
    fold: str
    speaker: str
    labels: Mapping[str, str]
    reference: str  # what the task wants of it: a class name, a transcript, a phone string
    gain_db: float = 0.0  # by which its samples are turned up (or down) before they are fed
    bank: str = ""  # id of the recording of which it is one crop of several; empty: it is whole, or the only one

    @property
    def seconds(self) -> float:
        return self.samples / self.rate


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong with a corpus. An error stops a run; a warning is printed and stored."""

    kind: str  # "unreadable", "stereo", "duplicate-id", ...
    where: str  # utterance, file, or manifest line
    what: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.severity}: {self.kind}: {self.where}: {self.what}"


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Checked utterances of one task, sorted by id."""

    task: str
    utterances: tuple[Utterance, ...]
    official: bool  # read from an official tree (not from a CSV)
    resampler: str = ""  # "soxr 1.1.0 HQ 8000->16000" where anything was resampled
    left_out: int = 0  # rows with an empty label, counted
    warnings: tuple[Problem, ...] = ()

    def items(self, indices: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """Recordings among some utterances: one index each, or all of a bank of crops, in the order of `indices`."""
        found: dict[str, list[int]] = {}
        for i in indices:
            found.setdefault(self.utterances[i].bank or self.utterances[i].id, []).append(i)
        return tuple(tuple(members) for members in found.values())

    @property
    def sha(self) -> str:
        """Hash of what is scored: ids, sound, splits, speakers and references; never a path."""
        return sha256_of([[u.id, u.content, u.split, u.fold, u.speaker, u.reference, u.bank] for u in self.utterances])


@dataclass(frozen=True, kw_only=True)
class PartSize:
    """The official size of one split, or of one fold, of a corpus. What is None is not published, and not compared."""

    part: str  # "train", "dev", "test", or the name of a fold
    utterances: int  # recordings: a bank of crops is one
    speakers: int | None = None
    hours: float | None = None
    classes: tuple[tuple[str, int], ...] = ()  # recordings of each class


@dataclass(frozen=True, kw_only=True)
class Partition:
    """One way to divide a corpus: indices into `Corpus.utterances`. A cross-validation has several."""

    name: str  # "all", or "fold1" ...
    train: tuple[int, ...]
    dev: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True)
class Layers:
    """What an upstream returns for one segment: one tensor [T, D] per layer, cut to its valid length."""

    tensors: tuple[torch.Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a head said of one utterance, beside what it should have said."""

    id: str
    reference: str
    hypothesis: str
    speaker: str = ""
    partition: str = "all"
    reference_units: str = ""  # what CTC was to give, symbols with spaces between, specials left out
    hypothesis_units: str = ""  # what it gave, `|` and all


@dataclass(frozen=True, kw_only=True)
class Score:
    """A metric as a fraction, with the counts it is made of: value = numerator / denominator."""

    metric: str  # "wer", "accuracy", ...
    value: float
    numerator: float  # errors, or hits
    denominator: int  # reference words, characters, phones, or utterances
    direction: Literal["min", "max"]
    counts: Mapping[str, int] = field(default_factory=dict)  # substitutions, deletions, insertions, hits


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One trained head of the learning-rate search."""

    partition: str
    seed: int
    lr: float
    dev: float  # the headline metric on dev at the best step
    best_step: int
    improved: bool  # False: dev never beat the starting value, so that the last step is kept
    train_loss: float | None  # mean over the last tenth of the steps; None where none of them was finite
    chosen: bool
    nan_steps: int = 0  # steps whose gradient was not finite, and was not applied
    curve: tuple[tuple[int, float], ...] = ()  # (step, dev) at every evaluation
    micro_batch: int = 0  # utterances at a time in the end: fewer than at the start where memory ran out
    failed: bool = False  # more of its steps had no finite gradient than is tolerated: it is not chosen


@dataclass(frozen=True, kw_only=True)
class FeatureCount:
    """Proof of the one pass: how often the upstream ran, against how many distinct sounds there were."""

    form: str  # "pooled" or "frames"
    segments: int  # distinct sounds the run needs
    computed: int  # segments that went through the upstream in this run
    reused: int  # segments found in the store
    bytes: int  # of the features the run reads
    seconds: float  # wall time of the extraction
    where: str = "disk"  # or "memory", or "streamed": computed as they were wanted
    streamed: int = 0  # times that a segment went through the upstream while heads trained and were scored
    warnings: tuple[str, ...] = ()  # damaged features put aside and computed again; batches that did not fit


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished run of one seed: what was asked, what came out, and everything needed to tell why."""

    schema: int
    run_id: str  # hash of the plan and the seed
    group: str  # hash of the plan: results of several seeds share it
    label: str  # "custom" or "superb", computed
    departures: tuple[str, ...]  # why it is custom
    task: str
    task_version: str
    protocol_sha: str
    upstream: str  # name with its options, as typed
    upstream_plugin: Provenance
    upstream_key: str  # hash of weights, options, code and environment: the store's key
    seed: int
    lr: float | None  # the chosen one; None where folds chose differently
    layers: str  # "all", or the one layer
    head: str
    scores: tuple[Score, ...]  # on test, the headline first
    dev_scores: tuple[Score, ...]
    train_scores: tuple[Score, ...]  # empty unless asked for
    fold_scores: Mapping[str, float]  # headline per fold; empty without folds
    candidates: tuple[Candidate, ...]
    layer_weights: Mapping[str, tuple[float, ...]]  # per partition: softmax of the learnt weights
    layer_weights_norm_corrected: Mapping[str, tuple[float, ...]]  # times each layer's mean feature norm, renormalised
    features: FeatureCount
    data: Mapping[str, Any]  # corpus hash, counts and hours per split, resampler, left out, warnings
    plan: Mapping[str, Any]  # the whole resolved plan
    environment: Mapping[str, Any]  # versions, device, threads, git commit of superbench
    timings: Mapping[str, float]  # seconds per stage
    finished: str  # UTC, ISO 8601
    folder: str  # where predictions and head lie
    upstream_fingerprint: str = ""  # hash of its features on two probe waves, rounded to 1e-3
    warnings: tuple[str, ...] = ()  # what a reader of the score must know
    decoder: Mapping[str, Any] = field(default_factory=dict)  # of the second decoding, where there was one
    files: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of every other file in `folder`, by its name

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return asdict(self)
