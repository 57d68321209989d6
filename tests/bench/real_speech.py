"""Heads trained on real recordings in two ways that differ in one thing: what `departures.py` measures with.

Reading, cropping, features, sampling and training are the product's own. Shapes: E evaluations in the course of a
training, N utterances of a corpus, x_NLD pooled features.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from superbench import corpus as corpora
from superbench.api import load_upstream
from superbench.contracts import Corpus, Crop, Partition, Row
from superbench.features.extraction import LoadedUpstream
from superbench.features.passes import ensure, need
from superbench.features.reduction import Form
from superbench.features.store import FeatureStore
from superbench.features.weighted_sum import Probe
from superbench.labels import Labels
from superbench.pipeline.gathering import read_wave
from superbench.pipeline.opening import open_corpus, require_corpus
from superbench.plan import RunRequest
from superbench.plugin import TaskProtocol, TaskSpec
from superbench.progress import Bar
from superbench.sampling import Batches, Pool, balanced_draw, derived_seed, sampler
from superbench.training.batches import Examples, Order
from superbench.training.fitting import Lane, Trial, fit
from superbench_downstreams.linear import LinearHead
from superbench_tasks import er, ks

from . import our_manner

EVALUATIONS = 20  # in the course of the steps, as `superbench run --steps` has them

Complete = Callable[[Sequence[Row]], Sequence[Row]]


@dataclass(frozen=True, kw_only=True)
class Size:
    steps: int
    er_steps: int  # fewer: ER trains five heads for one score
    seeds: int
    orders: int  # of the list that ER's dev is drawn from
    fresh: int  # crops of a bank that stands for crops drawn afresh
    draws: int  # of KS's dev
    epochs: int  # of padded batches that are encoded


@dataclass(frozen=True, kw_only=True)
class Material:
    """A corpus with its features: what heads are trained on."""

    name: str
    protocol: TaskProtocol
    corpus: Corpus
    labels: Labels
    parts: tuple[Partition, ...]
    examples: Examples
    shape: tuple[int, int]  # layers and width of the features

    def pool(self, indices: Sequence[int], bank: int | None = None) -> Pool:
        """What is drawn from, with the first `bank` crops of each recording: they are those of a bank of that size."""
        return Pool(
            items=tuple(item[:bank] for item in self.corpus.items(indices)),
            seconds=[u.seconds for u in self.corpus.utterances],
            targets=self.examples.targets,
        )

    def selection(self, part: Partition, bank: int | None = None, seed: int | None = None) -> list[int]:
        """What of dev is scored: all of it, or a balanced draw (the product's own, or that of another seed)."""
        if self.protocol.dev_sampling == "all":
            return list(part.dev)
        pool = self.pool(part.dev, bank)
        return balanced_draw(pool, len(pool.items), derived_seed("dev", part.name) if seed is None else seed)

    def passes(self, bank: int) -> str:
        """Upstream passes and hours of sound of a run with a bank of so many crops."""
        utterances = self.corpus.utterances
        items = self.corpus.items(range(len(utterances)))
        sounds = {utterances[i].content: utterances[i].seconds for item in items for i in item[:bank]}
        return f"{len(sounds)} passes, {sum(sounds.values()) / 3600:.3f} h"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What one head said at every evaluation."""

    dev: Tensor  # hits [E, N], False for what is not in dev or test
    test: Tensor  # accuracy [E]
    loss: Tensor  # cross entropy on test [E]
    silence: Tensor  # recall of KS's silence on test [E], NaN where there is none
    selection: Sequence[int]

    def chosen(self, selections: Sequence[Sequence[int]] | None = None) -> tuple[int, float]:
        """The first best evaluation on dev, and its dev score; the draw of dev may be another at every evaluation."""
        drawn = selections or [self.selection] * len(self.test)
        scores = [float(hits[list(s)].double().mean()) for hits, s in zip(self.dev, drawn, strict=True)]
        return scores.index(max(scores)), max(scores)

    @property
    def accuracy(self) -> float:
        """On test, at the step chosen on dev."""
        return float(self.test[self.chosen()[0]])


Heads = list[list[Trained]]  # by seed, and in it by partition


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where the data are, where features go, and how large everything is."""

    data: Path
    home: Path
    size: Size
    upstream: LoadedUpstream = field(default_factory=lambda: load_upstream("fbank_no_cmvn"))

    def opened(
        self,
        spec: TaskSpec,
        corpus: str = "",
        *,
        manifest: str = "",
        complete: Complete = tuple,
        upstream: LoadedUpstream | None = None,
        label_column: str = "",
    ) -> Material:
        """Read, check, extract. `complete` takes the place of the task's own, which cuts into crops."""
        loaded = upstream or self.upstream
        request = RunRequest(
            upstream=loaded.name,
            task=(spec.name,),
            corpus=(str(self.data / corpus),) if corpus else (),
            data=(str(self.data / manifest),) if manifest else (),
            label_column=label_column,
            resample=True,
        )
        checked = open_corpus(replace(spec, complete=lambda rows, _: complete(rows)), request)
        found, labels = require_corpus(checked, spec.name)
        wanted = need(loaded, found.utterances, Form(name="pooled"))
        store = FeatureStore(self.home, loaded.key, "pooled")
        ensure(loaded, store, wanted, read_wave, bar=Bar())
        heard = our_manner.Heard(
            store=store,
            need=wanted,
            utterances=tuple(found.utterances),
            lengths=tuple(loaded.frames(u.samples)[0] for u in found.utterances),
        )
        return Material(
            name=Path(manifest).parent.name or spec.folders[0],
            protocol=spec.protocol,
            corpus=found,
            labels=labels,
            parts=er.partitions(found) if spec.name == "er" else corpora.partitions(spec, found),
            examples=heard.examples([labels.encode(u.reference) for u in found.utterances]),
            shape=(len(loaded.upstream.widths), loaded.upstream.widths[0]),
        )

    def trained(
        self,
        material: Material,
        part: Partition,
        *,
        lr: float,
        seed: int,
        batches: Batches | None = None,
        bank: int | None = None,
    ) -> Trained:
        """Train one head with the product's own `fit`, and hear what it says of dev and test at every evaluation."""
        steps = self.size.er_steps if material.corpus.task == "er" else self.size.steps
        protocol = replace(material.protocol, steps=steps, eval_every=steps // EVALUATIONS, lr_grid=(lr,))
        selection = material.selection(part, bank)
        test = list(part.test)
        asked = (sorted(set(selection)) if bank else list(part.dev)) + test
        wanted = torch.tensor([t[0] for t in material.examples.targets])
        silent = [i for i in test if material.labels.names[int(wanted[i])] == ks.SILENCE]
        models: list[Probe] = []
        dev, accuracy, loss, silence = [], [], [], []

        def build() -> Probe:
            layers, width = material.shape
            models.append(Probe(layers, LinearHead(width, material.labels.size, projector=256)))
            return models[-1]

        @torch.inference_mode()
        def evaluate(_: dict[int, tuple[int, ...]]) -> float:
            x, lengths = material.examples.batch(asked)
            logits = models[-1](x, lengths)
            hits = torch.zeros(len(wanted), dtype=torch.bool)
            hits[asked] = logits.argmax(dim=-1) == wanted[asked]
            dev.append(hits)
            accuracy.append(hits[test].double().mean())
            loss.append(F.cross_entropy(logits[-len(test) :], wanted[test]))
            silence.append(hits[silent].double().mean())
            return float(hits[selection].double().mean())

        trial = Trial(
            protocol=protocol,
            blank=0,
            direction="max",
            device="cpu",
            threads=1,
            micro_batch=protocol.batch * protocol.accumulate,
        )
        lane = Lane(
            name=part.name,
            order=Order(seed=seed, batches=batches or sampler(protocol, material.pool(part.train, bank), seed)),
            dev=tuple(sorted(set(selection))),
            evaluate=evaluate,
        )
        folder = self.home / "candidates"
        shutil.rmtree(folder, ignore_errors=True)
        fit(build, material.examples, trial, [lane], folder=folder, bar=Bar())
        return Trained(
            dev=torch.stack(dev),
            test=torch.stack(accuracy),
            loss=torch.stack(loss),
            silence=torch.stack(silence),
            selection=selection,
        )

    def heads(
        self,
        material: Material,
        lr: float,
        *,
        bank: int | None = None,
        batches: Callable[[Partition, int], Batches] | None = None,
    ) -> Heads:
        """A head for every seed and partition."""
        return [
            [
                self.trained(material, p, lr=lr, seed=s, bank=bank, batches=batches(p, s) if batches else None)
                for p in material.parts
            ]
            for s in range(self.size.seeds)
        ]


def points(heads: Heads) -> list[float]:
    """Test accuracy of each seed, mean over the partitions, in per cent."""
    return [100 * statistics.fmean(h.accuracy for h in folds) for folds in heads]


def losses(ours: Heads, theirs: Heads) -> str:
    """Cross entropy on test after the last step, mean over everything, of both."""
    means = [statistics.fmean(float(h.loss[-1]) for folds in heads for h in folds) for heads in (ours, theirs)]
    return f"test loss {means[0]:.3f} / {means[1]:.3f}"


def cut(seconds: float, bank: int) -> Complete:
    """Cut training recordings into a bank of crops."""
    return lambda rows: [replace(r, crop=Crop(seconds=seconds, bank=bank)) if r.split == "train" else r for r in rows]


def silence_of(bank: int) -> Complete:
    """Cut a bank of another size from the background files."""
    one = Crop(seconds=1.0, bank=bank)
    return lambda rows: [replace(r, crop=r.crop and one) for r in rows]


def silence(heads: Heads) -> float:
    """Recall of silence on test, in per cent, at the steps chosen on dev."""
    return 100 * statistics.fmean(float(h.silence[h.chosen()[0]]) for folds in heads for h in folds)
