"""What both manners of training a task share: encoder, sounds, targets, batches, first weights; and how much is done.

What they are compared for stands in `side_by_side`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from superbench.features.extraction import LoadedUpstream
from superbench.features.weighted_sum import Probe
from superbench.plugin import TaskProtocol, TaskSpec
from superbench.sampling import Batches, Pool, sampler
from superbench_downstreams.blstm import BlstmHead
from superbench_downstreams.linear import LinearHead

from . import encoder, our_manner, s3prl_manner

RATES = (1e-3, 1e-1, 1e-2, 1e-4, 1e-5)  # SUPERB's five; s3prl's manner is measured with the first
LONGEST = 1.1  # times the shortest: utterances of a batch are alike in length
# Labels per second of sound, about as many as LibriSpeech's phones and characters.
LABELS = {"pr": 10, "asr": 14}
CLASSES = {"ks": 12, "sid": 1251, "pr": 74, "asr": 32}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How much of a task is done."""

    task: TaskSpec
    shape: encoder.Shape
    recordings: int
    seconds: float  # of the longest
    batch: int
    accumulate: int = 1
    steps: int
    rounds: int
    hidden: int = 1024  # of ASR's projector and LSTMs
    extrapolated: int = 0  # steps of ours at the official batch, to work out the official run from; 0: it is not
    all_runs: bool = False  # one run for each learning rate in s3prl's manner, once


class Contest:
    """What both manners share."""

    def __init__(self, trial: Trial, loaded: LoadedUpstream) -> None:
        self.trial, self.loaded = trial, loaded
        own = trial.task.protocol
        self.form = "frames" if own.objective == "ctc" else "pooled"
        self.protocol: TaskProtocol = replace(own, batch=trial.batch, accumulate=trial.accumulate, sampling="shuffled")
        self.sounds = encoder.waves(trial.recordings, trial.seconds, shortest=1 / LONGEST)
        self.classes = CLASSES[trial.task.name]
        self.targets = self._targets()

    def _targets(self) -> list[tuple[int, ...]]:
        if self.form == "pooled":
            return [(i % self.classes,) for i in range(len(self.sounds))]
        drawn = torch.Generator().manual_seed(0)
        numbers = [max(1, int(LABELS[self.trial.task.name] * len(s) / encoder.RATE)) for s in self.sounds]
        return [tuple(torch.randint(1, self.classes, (n,), generator=drawn).tolist()) for n in numbers]

    def batches(self, protocol: TaskProtocol) -> Batches:
        """Drawn without regard to the task's own way, which some recordings are too few for."""
        items = tuple((i,) for i in range(len(self.sounds)))
        lengths = [len(s) / encoder.RATE for s in self.sounds]
        return sampler(protocol, Pool(items=items, seconds=lengths, targets=self.targets), 0)

    def head(self, dropout: float) -> nn.Module:
        """A fresh head of the task."""
        width = self.loaded.upstream.widths[0]
        if self.trial.task.name == "asr":
            hidden = self.trial.hidden
            return BlstmHead(width, self.classes, projector=hidden, hidden=hidden, layers=2, dropout=dropout)
        return LinearHead(width, self.classes, projector=256)

    def theirs(self, steps: int, lr: float = RATES[0], dropout: float = 0.2) -> list[float]:
        """One run in s3prl's manner; the loss of every step."""
        torch.manual_seed(0)
        learner = s3prl_manner.Learner(self.loaded.layers, self.head(dropout), self.protocol).train()
        drawn = self.batches(self.protocol)
        all_batches = [drawn(step) for step in range(steps)]
        return s3prl_manner.train(learner, self.loaded, self.sounds, self.targets, all_batches, lr=lr)

    def extract(self, folder: Path) -> our_manner.Heard:
        """The one pass."""
        return our_manner.extract(self.loaded, self.sounds, self.form, folder)

    def ours(
        self,
        heard: our_manner.Heard,
        steps: int,
        *,
        rates: int,
        protocol: TaskProtocol | None = None,
        dropout: float = 0.2,
    ) -> our_manner.Trained:
        """All steps of so many learning rates."""
        taken = protocol or self.protocol
        candidates = our_manner.candidates_of(lambda: Probe(self.loaded.layers, self.head(dropout)), RATES[:rates])
        return our_manner.train(candidates, heard.examples(self.targets), self.batches(taken), steps, taken)

    def official_protocol(self) -> TaskProtocol:
        """The batch of SUPERB's run, drawn from the recordings at hand."""
        own = self.trial.task.protocol
        return replace(self.protocol, batch=own.batch, accumulate=own.accumulate)

    def heard(self, protocol: TaskProtocol, steps: int) -> float:
        """Seconds of sound in so many steps."""
        drawn = self.batches(protocol)
        return sum(len(self.sounds[i]) for s in range(steps) for batch in drawn(s) for i in batch) / encoder.RATE
