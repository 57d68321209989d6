"""Training as superbench does it: one pass into a store, then all learning rates together on what is stored.

These are the pipeline's own pieces. What is left out on both sides is evaluation on dev.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from superbench.contracts import Utterance
from superbench.features.examples import BUDGET, FeatureExamples
from superbench.features.extraction import LoadedUpstream
from superbench.features.passes import Need, ensure, need
from superbench.features.reduction import Form
from superbench.features.sources import Stored
from superbench.features.store import FeatureStore
from superbench.plugin import TaskProtocol
from superbench.progress import Bar
from superbench.sampling import Batches
from superbench.training.batches import AHEAD, Order, ahead, micro_batches
from superbench.training.candidates import Candidates

from . import encoder


@dataclass(frozen=True, kw_only=True)
class Heard:
    """Sounds that went through the encoder once."""

    store: FeatureStore
    need: Need
    utterances: tuple[Utterance, ...]
    lengths: tuple[int, ...]  # frames of each sound

    def examples(self, targets: Sequence[tuple[int, ...]], *, budget: int = BUDGET) -> FeatureExamples:
        """What is stored, as a head reads it, with at most `budget` bytes of it kept in memory."""
        sizes = {u.content: size for u, size in zip(self.need.segments, self.need.sizes, strict=True)}
        return FeatureExamples(
            Stored(self.store, _refuse_damage),
            self.utterances,
            targets,
            form=self.need.form,
            lengths=self.lengths,
            sizes=[sizes[u.content] for u in self.utterances],
            budget=budget,
        )


def extract(loaded: LoadedUpstream, sounds: Sequence[Tensor], form: str, folder: Path) -> Heard:
    """Hear every sound once and keep what a head of that form reads."""
    named = encoder.utterances(sounds)
    by_id = dict(zip((u.id for u in named), sounds, strict=True))
    wanted = need(loaded, named, Form(name=form))
    store = FeatureStore(folder, loaded.key, form)
    ensure(loaded, store, wanted, lambda u: by_id[u.id], bar=Bar())
    lengths = tuple(loaded.frames(u.samples)[0] for u in named)
    return Heard(store=store, need=wanted, utterances=tuple(named), lengths=lengths)


def _refuse_damage() -> None:
    raise AssertionError("features that were just written are damaged")


def candidates_of(build: Callable[[], nn.Module], lrs: Sequence[float], device: str = "cpu") -> Candidates:
    """One head for each learning rate, all from the same start, in training."""
    models = []
    for _ in lrs:
        torch.manual_seed(0)
        models.append(build().to(device))
    candidates = Candidates(models, lrs, precision="float32")
    candidates.train()
    return candidates


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What was seen of a training, step by step."""

    losses: list[list[float]]  # of every learning rate
    seconds: list[float]


def train(
    candidates: Candidates, examples: FeatureExamples, batches: Batches, steps: int, protocol: TaskProtocol
) -> Trained:
    """All steps of all learning rates."""
    order = Order(seed=0, batches=batches)
    size = protocol.batch * (protocol.accumulate if examples.form.pooled else 1)  # as the pipeline cuts it
    examples.expect(order.indices(step) for step in range(steps))
    prepared = ahead(
        lambda step: micro_batches([order], examples, step, protocol=protocol, size=size),
        range(steps),
        AHEAD if examples.reads_ahead else 0,
    )
    trained = Trained(losses=[], seconds=[])
    begun = time.perf_counter()
    for _, micro in prepared:
        losses, _ = candidates.step(micro, objective=protocol.objective, blank=0, clip=protocol.clip)
        trained.losses.append(losses)
        trained.seconds.append(time.perf_counter() - begun)
        begun = time.perf_counter()
    return trained
