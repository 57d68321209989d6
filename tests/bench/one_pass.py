"""One pass over the sounds against an encoder that runs at every step, on an utterance task.

A is s3prl's loop: waves -> encoder under `no_grad` -> weighted sum -> head -> step. B runs the same encoder once over
the corpus, stores time means, and trains on these; its time holds extraction, storing, reading and all steps. Both take
the same batches from the same start, and must reach the same loss at every step.

What the ratio means: passes saved. It grows with steps x batch / recordings, and nears that where the encoder outweighs
the head. What it does not mean: an encoder that is faster by itself. Both run it one wave at a time on a CPU; on a GPU
s3prl's padded batches cost less per sound, and A with them. The extrapolated line assumes KS as SUPERB runs it, one
learning rate, no evaluation on dev: each further rate, seed and evaluation adds encoder passes to A and none to B.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from superbench.features.examples import StoredExamples
from superbench.features.extraction import LoadedUpstream
from superbench.features.passes import ensure, need
from superbench.features.store import FeatureStore
from superbench.features.weighted_sum import Probe
from superbench.plugin import NoOptions
from superbench.progress import Bar
from superbench.sampling import Pool, sampler
from superbench.training import MicroBatch, train_step
from superbench_downstreams.linear import LinearHead
from superbench_tasks.ks import TASK as KS

from . import encoder, mean_of_frames
from .comparison import Comparison, alternate, seconds

CLASSES = 12  # of KS
KS_RECORDINGS = 51_088 + 6_798 + 3_081  # train, dev and test of Speech Commands v0.01, counted by s3prl's split
LOSS_TOLERANCE = 1e-3  # rounding, grown over the steps


@dataclass(frozen=True, kw_only=True)
class Size:
    shape: encoder.Shape
    recordings: int
    seconds: float  # of the longest recording
    batch: int
    steps: int
    rounds: int


SMALL = Size(shape=encoder.SMALL, recordings=80, seconds=0.5, batch=8, steps=50, rounds=3)
FULL = replace(SMALL, shape=encoder.BASE, recordings=10, seconds=1.0, steps=5)


class Setting:
    """What A and B share: encoder, sounds and classes; and what each of them found."""

    def __init__(self, size: Size, loaded: LoadedUpstream) -> None:
        self.size, self.loaded = size, loaded
        self.waves = encoder.waves(size.recordings, size.seconds)
        self.targets: list[tuple[int, ...]] = [(i % CLASSES,) for i in range(size.recordings)]
        items = tuple((i,) for i in range(size.recordings))
        pool = Pool(items=items, seconds=[size.seconds] * size.recordings, targets=self.targets)
        draw = sampler(replace(KS.protocol, batch=size.batch), pool, seed=0)
        self.batches = [draw(step)[0] for step in range(size.steps)]
        self.losses: dict[str, list[float]] = {}
        self.extraction: list[float] = []  # seconds of B's extraction, one per round

    def probe(self, build: Callable[[int, int], nn.Module]) -> Probe:
        """A head with its weighted sum; from one seed, so that both heads start at the same weights."""
        torch.manual_seed(0)
        return Probe(self.loaded.layers, build(self.loaded.upstream.widths[0], CLASSES))

    def encode_every_step(self) -> None:
        """A: the encoder runs on every batch of every step."""
        model = self.probe(partial(mean_of_frames.build, NoOptions()))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        self.losses["A"] = []
        for indices in self.batches:
            with torch.no_grad():
                x, lengths = encoder.padded(self.loaded.upstream([self.waves[i] for i in indices]))
            self._step("A", model, optimizer, x, lengths, indices)

    def encode_once(self) -> None:
        """B: the encoder runs on every recording once, and never again."""
        named = encoder.utterances(self.waves)
        by_id = dict(zip((u.id for u in named), self.waves, strict=True))
        wanted = need(self.loaded, named, "pooled")
        with tempfile.TemporaryDirectory() as folder:
            store = FeatureStore(Path(folder), self.loaded.key, "pooled")
            extract = seconds(lambda: ensure(self.loaded, store, wanted, lambda u: by_id[u.id], bar=Bar()))
            self.extraction.append(extract)
            examples = StoredExamples(
                store,
                [u.content for u in named],
                self.targets,
                form="pooled",
                layer=None,
                device="cpu",
                bytes_in_all=wanted.bytes,
            )
            model = self.probe(partial(LinearHead, projector=256))
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
            self.losses["B"] = []
            for indices in self.batches:
                x, lengths = examples.batch(indices)
                self._step("B", model, optimizer, x, lengths, indices)

    def _step(
        self,
        who: str,
        model: Probe,
        optimizer: torch.optim.Optimizer,
        x: torch.Tensor,
        lengths: torch.Tensor | None,
        indices: list[int],
    ) -> None:
        micro_batch = MicroBatch(x=x, lengths=lengths, targets=[self.targets[i] for i in indices], weight=1.0)
        losses, _ = train_step(model, optimizer, [micro_batch], objective="cross_entropy", blank=0, clip=1.0)
        self.losses[who] += losses


def compare(size: Size) -> tuple[Comparison, ...]:
    """The measured ratio at `size.steps`, and the one it means for KS at the protocol's steps, batch and corpus."""
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(size, encoder.random_encoder(Path(folder), size.shape))
    setting.loaded(setting.waves[:2])  # warm up
    taken = alternate(
        {"A": lambda: seconds(setting.encode_every_step), "B": lambda: seconds(setting.encode_once)}, size.rounds
    )
    torch.testing.assert_close(
        torch.tensor(setting.losses["A"]), torch.tensor(setting.losses["B"]), rtol=0, atol=LOSS_TOLERANCE
    )
    protocol = KS.protocol
    trained = [b - e for b, e in zip(taken["B"], setting.extraction, strict=True)]
    grown = protocol.steps * protocol.batch / (size.steps * size.batch)  # utterances seen there over those seen here
    whole_a = tuple(a * grown / 3600 for a in taken["A"])
    whole_b = tuple(
        (e * KS_RECORDINGS / size.recordings + t * grown) / 3600
        for e, t in zip(setting.extraction, trained, strict=True)
    )
    measured = Comparison(
        benchmark="one_pass",
        a="encoder at every step",
        b="encoder once, pooled means",
        unit="s",
        a_values=taken["A"],
        b_values=taken["B"],
        note=f"{size.steps} steps of {size.batch} over {size.recordings} recordings",
    )
    extrapolated = replace(
        measured,
        unit="h",
        a_values=whole_a,
        b_values=whole_b,
        note=f"KS: {protocol.steps} steps of {protocol.batch} over {KS_RECORDINGS} recordings as long as these",
        extrapolated=True,
    )
    return measured, extrapolated
