"""The door: what a plugin may bring, and what it promises.

A plugin is a module with functions marked `@hookimpl`; each yields typed, frozen specs. It comes in through an
installed distribution's entry point (group `superbench`), or from one file or module by `superbench -p FILE_OR_MODULE`.
The built-ins come in the same way. Nothing here loads torch, and neither should a plugin before its `load` or `build`
is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pluggy

from superbench.contracts import Corpus, Crop, Layers, Partition, PartSize, Result, Row, Settings
from superbench.errors import ContractError

if TYPE_CHECKING:
    import click
    import torch

    from superbench.labels import Labels

PROJECT = "superbench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

__all__ = [
    "CommandSpec",
    "Corpus",
    "Crop",
    "Decoder",
    "Departure",
    "DownstreamSpec",
    "Head",
    "Layers",
    "NoOptions",
    "PartSize",
    "Partition",
    "RecipeSpec",
    "Row",
    "Settings",
    "SpecAugment",
    "TaskProtocol",
    "TaskSpec",
    "Upstream",
    "UpstreamSpec",
    "hookimpl",
    "hookspec",
]


@dataclass(frozen=True)
class NoOptions:
    """The options of something that takes none."""


class Upstream(Protocol):
    """A frozen encoder, loaded. One entry per layer in `strides` and `widths`.

    It may also have:

    - `exact_batches = True`: a batch gives each wave the features it has alone, but for rounding. Without it waves come
      one at a time; with it they come in batches of like lengths.
    - `batch_samples: int`: samples of a batch at most, padding counted, in place of superbench's own measure
    - `max_samples: int`: longer sound is refused by name
    - `astype(dtype)`: returns itself computing in that dtype
    - `weights_sha: str`: a hash that answers for its weights and settings; without it they are known by behaviour
    - `integers = True`: its tensors are integer codes [T, K] in place of features [T, D], and `widths` says K
    - `taps: tuple[str, ...]`: names of what else it can say ("ffn", "codes", "logits", ...), and `tap(name)`, which
      returns an upstream of the same weights whose layers are that output, with strides, widths, `num_frames` and all
      of the above as they are for it. "hidden" always means the layers themselves, and need not be named.
    """

    @property
    def sample_rate(self) -> int:
        """Hz of the waves it takes."""
        ...

    @property
    def strides(self) -> Sequence[int]:
        """Samples between frames, per layer."""
        ...

    @property
    def widths(self) -> Sequence[int]:
        """Feature width D, per layer."""
        ...

    def num_frames(self, samples: int) -> int | Sequence[int]:
        """Frames that `samples` samples give: one number for all layers, or one per layer."""
        ...

    def __call__(self, waves: list[torch.Tensor]) -> Sequence[Layers]:
        """Map waves, float tensors [n] at `sample_rate` on the device, to one `Layers` each."""
        ...


@dataclass(frozen=True, kw_only=True)
class UpstreamSpec:
    """An upstream by name. `load(options, device)` is called once per run; `device` is a string such as "cpu"."""

    name: str
    load: Callable[[Any, str], Upstream]
    summary: str = ""
    options: type = NoOptions  # a frozen dataclass; `--upstream NAME:option=value`
    sources: tuple[str, ...] = ()  # further modules whose source decides the features, beside `load`'s own
    distributions: tuple[str, ...] = ()  # installed distributions whose version decides the features


class Head(Protocol):
    """A torch module. `reads == "pooled"`: called with x_BD. `reads == "frames"`: called with x_BTD and lengths_B.

    `gives == "utterance"`: returns logits_BC. `gives == "frames"`: returns logits_BTC.

    It may also have `together(parameters, x, lengths)`: the same for C sets of its parameters at once, `parameters`
    mapping their names to [C, ...], x_CBD or x_CBTD, to logits_CBK or logits_CBTK. Then all learning rates of a seed
    train in one step; without it one after the other on the same features. It draws nothing at random, mixes no
    candidates and has no buffers. A head of frames with dropout uses `superbench.dropout.UtteranceDropout`, whose masks
    do not depend on how many utterances go through the head at a time; with `nn.Dropout` they do.
    """

    def __call__(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor: ...


@dataclass(frozen=True, kw_only=True)
class DownstreamSpec:
    """A light head by name. `build(options, width, classes)` returns a fresh torch module (see `Head`)."""

    name: str
    build: Callable[[Any, int, int], torch.nn.Module]
    reads: Literal["pooled", "frames"]
    gives: Literal["utterance", "frames"] = "utterance"  # logits_BC, or logits_BTC for CTC
    summary: str = ""
    options: type = NoOptions


Sampling = Literal["shuffled", "balanced", "length_buckets", "label_windows"]


@dataclass(frozen=True, kw_only=True)
class SpecAugment:
    """Augmentation of the weighted sum in training (Park et al. 2019): one time warp, then masks of zeros.

    Widths of masks are drawn from 0 to one below the number given, places so that a mask ends within the batch.
    """

    time_warp: int  # frames by which a point of each utterance moves at most; up to twice as long: not warped
    frequency_masks: int  # per utterance
    frequency_width: int  # features, exclusive
    time_masks: int  # per utterance
    time_width: int  # frames, exclusive

    def __post_init__(self) -> None:
        """Refuse what is no number of masks, frames or features."""
        wrong = [
            f"{n} is {v!r}" for n, v in vars(self).items() if isinstance(v, bool) or not isinstance(v, int) or v < 0
        ]
        if wrong:
            raise ContractError(f"SpecAugment: {', '.join(wrong)}: whole numbers from 0 up", "see superbench.plugin")


@dataclass(frozen=True, kw_only=True)
class Departure:
    """One thing a task does otherwise than the protocol it follows, on purpose."""

    what: str
    why: str
    effect: str  # on the score: measured or worked out


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """A second way to read what a CTC head says of the test set, beside the greedy one."""

    name: str  # "lm": its scores are `wer_lm`, ...
    decode: Callable[[torch.Tensor], str]  # log probabilities [T, C], float32 on the CPU, to text
    sha: str  # hash of its constants and files
    constants: Any  # a frozen dataclass, kept with the result
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TaskProtocol:
    """Every constant of a task, in one object; its hash goes into every result.

    A task with constants of its own (its classes, its splits) subclasses it. How `sampling` draws an effective batch
    of `accumulate` batches is said in `superbench.sampling`.
    """

    family: str = ""  # "superb": whose protocol it is, and the label that a run without deviation earns
    source: str = ""  # where its constants stand
    head: str  # "blstm" or "frame_linear:projector=256"
    objective: Literal["cross_entropy", "ctc"]
    metrics: tuple[str, ...]  # names in `superbench.metrics`, the headline (and selection metric on dev) first
    steps: int  # optimiser steps
    batch: int  # utterances per micro-batch
    accumulate: int  # micro-batches per step
    eval_every: int  # steps between evaluations on dev
    clip: float  # gradient norm
    lr_grid: tuple[float, ...]
    optimizer: Literal["adam"] = "adam"
    schedule: Literal["none"] = "none"  # of the learning rate
    selection: Literal["first best on dev"] = "first best on dev"  # of steps; of equal learning rates the smallest
    sample_rate: int = 16000  # Hz
    gain_db: float = 0.0  # by which every recording is turned up (or down)
    sampling: Sampling = "shuffled"
    halve_above: float | None = None  # seconds: a batch whose first recording is longer keeps its first half
    dev_sampling: Literal["all", "balanced"] = "all"  # balanced: as many draws as recordings, by `dev_seed`
    dev_seed: int = 0  # the same for every seed of a run
    must_beat: float | None = None  # a fraction; a step whose dev score does not is no best step; None: any is
    augment: SpecAugment | None = None
    sizes: tuple[PartSize, ...] = ()  # of the official corpus


def _as_they_are(rows: Sequence[Row], options: Any) -> Sequence[Row]:
    return rows


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """A task: its protocol, how its corpus becomes rows, and what its labels are."""

    name: str
    version: str
    protocol: TaskProtocol
    column: str  # the label that is the reference: "text", "phones", "speaker" or "label"
    labels: Callable[[Sequence[str], bool], Labels]  # (training references, official tree?) -> vocabulary
    read: Callable[[Path, Any], Iterable[Row]] | None = None  # official tree -> rows; None: CSV manifests only
    folders: tuple[str, ...] = ()  # official folders under `--corpus ROOT` that `read` needs
    complete: Callable[[Sequence[Row], Any], Sequence[Row]] = _as_they_are  # adds labels (phones by lexicon)
    partitions: Callable[[Corpus], tuple[Partition, ...]] | None = None  # None: by `fold`, else by `split`
    speakers: Literal["disjoint", "any"] = "any"  # must no speaker of test be in train?
    options: type = NoOptions  # of these, `run` fills `lexicon`, `lm` and `meta`
    decoder: Callable[[Any, Labels], Decoder | None] | None = None  # (options, vocabulary); None: greedy alone
    deviations: Callable[[Any], Sequence[str]] | None = None  # what of its options makes a run `custom`, in words
    summary: str = ""
    departures: tuple[Departure, ...] = ()  # from the published protocol, on purpose


@dataclass(frozen=True, kw_only=True)
class RecipeSpec:
    """How a student is trained from a teacher; `options` is what its file may say."""

    name: str
    train: Callable[[Any, Settings], Any]
    summary: str = ""
    options: type = NoOptions


@dataclass(frozen=True, kw_only=True)
class CommandSpec:
    """A click command, put under a group of commands (`under="corpus"`) or at the top (`under=""`)."""

    command: click.Command
    under: str = ""


class Hooks:
    """The hook specifications: one promise each."""

    @hookspec
    def superbench_upstreams(self) -> Iterable[UpstreamSpec]:
        """Yield the upstreams this plugin brings.

        Example: `yield UpstreamSpec(name="mine", load=load, options=Options)`
        """
        raise AssertionError("a hook specification is never called")

    @hookspec
    def superbench_downstreams(self) -> Iterable[DownstreamSpec]:
        """Yield the heads this plugin brings.

        Example: `yield DownstreamSpec(name="mlp", build=build, reads="pooled")`
        """
        raise AssertionError("a hook specification is never called")

    @hookspec
    def superbench_tasks(self) -> Iterable[TaskSpec]:
        """Yield the tasks this plugin brings.

        Example: `yield TaskSpec(name="langid", version="1", protocol=..., column="label", labels=...)`
        """
        raise AssertionError("a hook specification is never called")

    @hookspec
    def superbench_recipes(self) -> Iterable[RecipeSpec]:
        """Yield the student-training recipes this plugin brings.

        Example: `yield RecipeSpec(name="distil", train=train)`
        """
        raise AssertionError("a hook specification is never called")

    @hookspec
    def superbench_commands(self) -> Iterable[click.Command | CommandSpec]:
        """Yield click commands (or `CommandSpec`s that name a group to sit under) for the command line.

        Example: `yield CommandSpec(command=import_lhotse, under="corpus")`
        """
        raise AssertionError("a hook specification is never called")

    @hookspec
    def superbench_result(self, result: Result, settings: Settings) -> None:
        """Hear of a finished run. A listener that raises loses nothing: the result is on disk already.

        Example: `print(result.task, result.scores[0].value)`
        """
        raise AssertionError("a hook specification is never called")
