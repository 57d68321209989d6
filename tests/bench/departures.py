"""What each departure from s3prl does to a score, on real recordings: `python -m tests.bench.departures SHARED`.

SHARED is the folder that has `data/` with real speech. Each departure of `superbench_tasks.departures` is tried both
ways on features that are extracted once; only the one thing differs, and both ways have the same seeds, and so the same
start and, as far as they can, the same batches. A difference is ours less theirs, in points of accuracy on test at the
step chosen on dev, with the standard error of the seeds' paired differences; SD is that of our score over the seeds.
The corpora are small (one test item is 0.3 to 5 points) and all seeds share one test set: that noise is in neither.
The loss is the cross entropy on test after the last step.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click
import torch
from torch import Tensor, nn

from superbench.cli.output import echo_table
from superbench.contracts import Corpus, Partition
from superbench.features.extraction import LoadedUpstream
from superbench.pipeline.gathering import read_wave
from superbench.plugin import TaskSpec
from superbench.sampling import Batches, derived_seed, sampler
from superbench_tasks import er, ks, sid

from . import encoder
from .real_speech import EVALUATIONS, Bench, Material, Size, Trained, cut, losses, points, silence, silence_of

REFERENCE_RATE = 1e-4  # config.yaml of all three tasks, s3prl@ec8064b
LOW_RATES = (1e-6, 1e-7)  # to which some submissions searched
STRIDE = 320  # samples per frame of a HuBERT
RATES = {"ks": 1e-3, "sid": 1e-3, "er": 1e-3}  # the best of the grid on dev at these steps, by `learning_rates`
BANKS = {"sid": (1, 2, 4, 8, 16), "ks": (8, 32, 128, 512)}

FULL = Size(steps=600, er_steps=200, seeds=5, orders=10, fresh=48, draws=100, epochs=4)
QUICK = Size(steps=20, er_steps=20, seeds=2, orders=2, fresh=4, draws=2, epochs=1)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One comparison: scores in per cent, one per seed, of the same seeds on both sides."""

    departure: str
    compared: str
    ours: Sequence[float]
    theirs: Sequence[float]
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        """As the table shows them."""
        apart = [a - b for a, b in zip(self.ours, self.theirs, strict=True)]
        return (
            self.departure,
            self.compared,
            f"{statistics.fmean(self.ours):.1f}",
            f"{statistics.fmean(self.theirs):.1f}",
            f"{statistics.fmean(apart):+.2f} ± {statistics.stdev(apart) / len(apart) ** 0.5:.2f}",
            f"{statistics.stdev(self.ours):.2f}",
            str(len(apart)),
            self.note,
        )


def sid_crops(bench: Bench) -> Iterator[Line]:
    """Banks of crops, and whole recordings, against crops drawn afresh (a large bank stands for them)."""
    for folder, seconds in (("official/LibriSpeech", 8.0), ("official/LibriSpeech", 2.0), ("speechocean762", 1.5)):
        manifest, fresh = f"{folder}/manifest.sid.csv", bench.size.fresh
        cropped = bench.opened(sid.TASK, manifest=manifest, complete=cut(seconds, fresh))
        theirs = bench.heads(cropped, RATES["sid"])

        ways = [(f"bank of {b}", cropped, b) for b in BANKS["sid"]]
        ways.append(("whole recordings", bench.opened(sid.TASK, manifest=manifest), 1))
        for name, material, bank in ways:
            ours = bench.heads(material, RATES["sid"], bank=bank)
            yield Line(
                departure="SID_CROPS",
                compared=f"{cropped.name}, {seconds:g} s: {name} / fresh (bank of {fresh})",
                ours=points(ours),
                theirs=points(theirs),
                note=f"{losses(ours, theirs)}; {material.passes(bank)}",
            )


def ks_silence(bench: Bench) -> Iterator[Line]:
    """Banks of background seconds, in train and in dev, against seconds drawn afresh (a large bank)."""
    fresh = 20 * bench.size.fresh
    material = bench.opened(ks.TASK, "official", complete=silence_of(fresh))
    theirs = bench.heads(material, RATES["ks"], bank=fresh)
    for bank in BANKS["ks"]:
        ours = bench.heads(material, RATES["ks"], bank=bank)
        yield Line(
            departure="KS_SILENCE",
            compared=f"Speech Commands: bank of {bank} / fresh (bank of {fresh})",
            ours=points(ours),
            theirs=points(theirs),
            note=f"recall of silence {silence(ours):.1f} / {silence(theirs):.1f}; {losses(ours, theirs)}; "
            f"{material.passes(bank)}",
        )


def ks_dev(bench: Bench) -> Iterator[Line]:
    """One draw of dev for all evaluations against another such draw, and against another draw at every evaluation."""
    material = bench.opened(ks.TASK, "official", complete=silence_of(128))
    (part,) = material.parts
    grid = material.protocol.lr_grid
    own = [material.selection(part)] * EVALUATIONS
    searches = [[bench.trained(material, part, lr=lr, seed=s) for lr in grid] for s in range(bench.size.seeds)]

    def best(search: Sequence[Trained], draws: Sequence[Sequence[int]]) -> tuple[int, int]:
        """Learning rate and evaluation: the best on dev, ties to the smaller rate and to the first evaluation."""
        found = [head.chosen(draws) for head in search]
        rate = max(range(len(grid)), key=lambda i: (found[i][1], -grid[i]))
        return rate, found[rate][0]

    def drawn(number: int, each: bool) -> list[list[int]]:
        draws = [material.selection(part, seed=derived_seed(number, e)) for e in range(EVALUATIONS if each else 1)]
        return draws if each else draws * EVALUATIONS

    for each in (False, True):
        ours, theirs, moved, rates, steps = [], [], [], [], []
        for search in searches:
            rate, step = best(search, own)
            ours.append(100 * float(search[rate].test[step]))
            others = [best(search, drawn(n, each)) for n in range(bench.size.draws)]
            tested = [100 * float(search[r].test[e]) for r, e in others]
            theirs.append(statistics.fmean(tested))
            moved += [t - ours[-1] for t in tested]
            rates += [r != rate for r, _ in others]
            steps += [other != (rate, step) for other in others]
        yield Line(
            departure="KS_DEV",
            compared=f"Speech Commands: our draw / another{' at every evaluation' if each else ''}",
            ours=ours,
            theirs=theirs,
            note=f"grid of {len(grid)}, {bench.size.draws} draws per seed: another rate "
            f"{100 * statistics.fmean(rates):.0f} %, another step or rate {100 * statistics.fmean(steps):.0f} %; "
            f"test moves by {statistics.fmean(moved):+.2f}, SD {statistics.stdev(moved):.2f}",
        )


def er_folds(bench: Bench) -> Iterator[Line]:
    """Dev drawn from the sorted ids against dev drawn from other orders of the same list."""
    small = replace(bench, size=replace(bench.size, seeds=2))
    for material in (_emodb(bench), bench.opened(er.TASK, "official")):
        generator, count = torch.Generator().manual_seed(0), len(material.corpus.utterances)
        orders = [torch.randperm(count, generator=generator).tolist() for _ in range(bench.size.orders)]
        listed = [replace(material, parts=_in_order(material.corpus, order)) for order in orders]
        ours, *others = (points(small.heads(one, RATES["er"])) for one in (material, *listed))
        means = [statistics.fmean(scores) for scores in others]
        seeds = statistics.fmean(statistics.stdev(scores) for scores in (ours, *others))
        yield Line(
            departure="ER_FOLDS",
            compared=f"{material.name}, mean of 5 folds: sorted ids / mean of {len(orders)} other orders",
            ours=ours,
            theirs=[statistics.fmean(scores) for scores in zip(*others, strict=True)],
            note=f"SD over orders {statistics.stdev(means):.2f} (means of {len(ours)} seeds, from {min(means):.1f} to "
            f"{max(means):.1f}), over seeds {seeds:.2f}; {count} utterances",
        )


def _emodb(bench: Bench) -> Material:
    return bench.opened(er.TASK, manifest="emodb/manifest.er.csv", label_column="label4")


def _in_order(corpus: Corpus, order: Sequence[int]) -> tuple[Partition, ...]:
    """The task's own folds of a list in another order, as indices into the corpus."""
    listed = replace(corpus, utterances=tuple(corpus.utterances[i] for i in order))
    return tuple(
        replace(p, **{part: tuple(order[i] for i in getattr(p, part)) for part in ("train", "dev", "test")})
        for p in er.partitions(listed)
    )


@dataclass(frozen=True, kw_only=True)
class Versions:
    """Features of a corpus as dev and test have them, and after these as train has them in every epoch."""

    x: Tensor  # [(1 + epochs) N, L, D]
    targets: tuple[tuple[int, ...], ...]
    lengths: tuple[int, ...]  # 1 each: time means

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, None]:
        return self.x[list(indices)], None


def exact_features(bench: Bench) -> Iterator[Line]:
    """Features of each recording alone against those of padded batches, of a HuBERT with random weights.

    Padding matters the more, the more the lengths within a batch differ: much in FSDD, not in Speech Commands, where
    nearly all recordings have one second. The epochs that are encoded stand for all.
    """
    with tempfile.TemporaryDirectory() as folder:
        loaded = encoder.random_encoder(Path(folder), encoder.Shape(convolution=64, width=64, layers=3))
        for spec, manifest, evaluated in (
            (ks.TASK, "fsdd/manifest.ks.csv", ks.PROTOCOL.batch),
            (sid.TASK, "fsdd/manifest.sid.csv", 1),
            (sid.TASK, "speechocean762/manifest.sid.csv", 1),
        ):
            yield _exact(bench, spec, manifest, loaded, Path(folder), evaluated)


def _exact(
    bench: Bench, spec: TaskSpec, manifest: str, loaded: LoadedUpstream, checkpoint: Path, evaluated: int
) -> Line:
    alone = bench.opened(spec, manifest=manifest, upstream=loaded)
    versions = _padded(bench, alone, checkpoint, evaluated)
    padded = replace(alone, examples=versions)
    count = len(alone.corpus.utterances)

    def batches(part: Partition, seed: int) -> Batches:
        pool = padded.pool(part.train)
        items = tuple(tuple(range(i + count, len(versions.x), count)) for (i,) in pool.items)
        return sampler(padded.protocol, replace(pool, items=items), seed)

    own, _ = alone.examples.batch(range(count))
    training = list(alone.parts[0].train)
    moved = (versions.x[count : 2 * count] - own)[training].norm(dim=2) / own[training].norm(dim=2)
    spread = (own - own.mean(dim=0))[training].norm(dim=2) / own[training].norm(dim=2)
    ours, theirs = bench.heads(alone, RATES[spec.name]), bench.heads(padded, RATES[spec.name], batches=batches)
    return Line(
        departure="EXACT_FEATURES",
        compared=f"{alone.name} {spec.name}: alone / train in batches of {spec.protocol.batch}, test of {evaluated}",
        ours=points(ours),
        theirs=points(theirs),
        note=f"time means move by {100 * float(moved.mean()):.1f} % of their norm in train (recordings differ by "
        f"{100 * float(spread.mean()):.1f} % from their mean); {losses(ours, theirs)}",
    )


def _padded(bench: Bench, alone: Material, checkpoint: Path, evaluated: int) -> Versions:
    """The corpus as s3prl would hear it: some epochs of train in shuffled batches, dev and test in their order."""
    import transformers

    model = transformers.HubertModel.from_pretrained(checkpoint).eval()
    waves = [read_wave(u) for u in alone.corpus.utterances]
    (part,) = alone.parts
    own, _ = alone.examples.batch(range(len(waves)))
    versions = [own.clone() for _ in range(1 + bench.size.epochs)]
    for asked in (part.dev, part.test):
        _encode(model, waves, [asked[i : i + evaluated] for i in range(0, len(asked), evaluated)], versions[0])
    size = alone.protocol.batch
    for epoch, x_NLD in enumerate(versions[1:]):
        drawn = torch.randperm(len(part.train), generator=torch.Generator().manual_seed(epoch)).tolist()
        order = [part.train[i] for i in drawn]
        _encode(model, waves, [order[i : i + size] for i in range(0, len(order), size)], x_NLD)
    return Versions(
        x=torch.cat(versions),
        targets=tuple(alone.examples.targets) * len(versions),
        lengths=tuple(alone.examples.lengths) * len(versions),
    )


@torch.inference_mode()
def _encode(model: nn.Module, waves: Sequence[Tensor], groups: Sequence[Sequence[int]], x_NLD: Tensor) -> None:
    """Write time means of padded batches into `x_NLD`, over round(samples / 320) frames: s3prl's rule."""
    for group in groups:
        lengths_B = torch.tensor([len(waves[i]) for i in group])
        padded = nn.utils.rnn.pad_sequence([waves[i] for i in group], batch_first=True)
        mask = (torch.arange(padded.shape[1]) < lengths_B[:, None]).long()
        states = model(padded, attention_mask=mask, output_hidden_states=True).hidden_states
        for row, i in enumerate(group):
            x_NLD[i] = torch.stack([x_BTD[row, : round(len(waves[i]) / STRIDE)].mean(dim=0) for x_BTD in states])


def whole_batches(bench: Bench) -> Iterator[Line]:
    """Epochs without end against epochs whose last batch is short, or is dropped."""
    libri = bench.opened(sid.TASK, manifest="official/LibriSpeech/manifest.sid.csv")
    for material in (libri, _emodb(bench)):
        task, size = material.corpus.task, material.protocol.batch
        ours = bench.heads(material, RATES[task])
        left = sorted({len(p.train) % size for p in material.parts})
        for dropped in (False, True):
            theirs = bench.heads(material, RATES[task], batches=partial(_epochs, material, dropped=dropped))
            yield Line(
                departure="WHOLE_BATCHES",
                compared=f"{material.name} {task}: without end / last batch {'dropped' if dropped else 'short'}",
                ours=points(ours),
                theirs=points(theirs),
                note=f"batches of {size}, the last of {', '.join(map(str, left))}; {losses(ours, theirs)}",
            )


def _epochs(material: Material, part: Partition, seed: int, *, dropped: bool) -> Batches:
    """Epochs cut each for itself, in the product's own order; accumulation goes on over their ends, as s3prl's does."""
    protocol, size = material.protocol, material.protocol.batch
    number = len(part.train) // size if dropped else -(-len(part.train) // size)

    def batch(place: int) -> list[int]:
        epoch, nth = divmod(place, number)
        generator = torch.Generator().manual_seed(derived_seed(seed, "epoch", epoch))
        order = torch.randperm(len(part.train), generator=generator).tolist()
        return [part.train[i] for i in order[nth * size : (nth + 1) * size]]

    return lambda step: [batch(step * protocol.accumulate + k) for k in range(protocol.accumulate)]


def learning_rates(bench: Bench) -> Iterator[Line]:
    """The best of our grid on dev against the best of a grid to 1e-7, and against the reference's default."""
    for material in (
        bench.opened(ks.TASK, "official", complete=silence_of(128)),
        bench.opened(sid.TASK, manifest="official/LibriSpeech/manifest.sid.csv"),
        bench.opened(sid.TASK, manifest="speechocean762/manifest.sid.csv"),
        _emodb(bench),
    ):
        own = material.protocol.lr_grid
        grids = {"ours": own, "to 1e-7": (*own, *LOW_RATES), "1e-4 alone": (REFERENCE_RATE,)}
        dev: dict[float, list[float]] = {lr: [] for lr in grids["to 1e-7"]}
        scores: dict[str, list[float]] = {name: [] for name in grids}
        for seed in range(bench.size.seeds):
            found: dict[str, list[float]] = {name: [] for name in grids}
            for part in material.parts:
                heads = {lr: bench.trained(material, part, lr=lr, seed=seed) for lr in dev}
                for lr, head in heads.items():
                    dev[lr].append(100 * head.chosen()[1])
                for name, grid in grids.items():
                    best = max(grid, key=lambda lr, heads=heads: (heads[lr].chosen()[1], -lr))
                    found[name].append(100 * heads[best].accuracy)
            for name, values in found.items():
                scores[name].append(statistics.fmean(values))
        told = ", ".join(f"{lr:g}: {statistics.fmean(values):.0f}" for lr, values in dev.items())
        for name in ("to 1e-7", "1e-4 alone"):
            yield Line(
                departure="LEARNING_RATES",
                compared=f"{material.name} {material.corpus.task}: grid to 1e-5 / {name}",
                ours=scores["ours"],
                theirs=scores[name],
                note=f"dev by rate: {told}",
            )


MEASURES: dict[str, Callable[[Bench], Iterator[Line]]] = {
    f.__name__: f for f in (exact_features, sid_crops, ks_silence, ks_dev, er_folds, whole_batches, learning_rates)
}
COLUMNS = ("departure", "compared: ours / theirs", "ours", "theirs", "difference", "SD", "seeds", "note")


@click.command()
@click.argument("shared", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--quick", is_flag=True, help="Few steps and seeds: shows that all of it runs, and says nothing else.")
@click.option("--only", multiple=True, type=click.Choice(tuple(MEASURES)), help="Measure these alone.")
def main(shared: Path, quick: bool, only: tuple[str, ...]) -> None:
    """Measure what each departure does to a score."""
    torch.set_num_threads(1)
    size = QUICK if quick else FULL
    rows = []
    with tempfile.TemporaryDirectory() as home:
        bench = Bench(data=shared / "data", home=Path(home), size=size)
        for name in only or MEASURES:
            click.echo(f"{name} ...", err=True)
            for line in MEASURES[name](bench):
                rows.append(line.cells())
                click.echo("  " + " | ".join(rows[-1]), err=True)
    rates = ", ".join(f"{task} {lr:g}" for task, lr in RATES.items())
    title = (
        f"{bench.upstream.name} (a random HuBERT for EXACT_FEATURES), {size.steps} steps (er {size.er_steps}), "
        f"{EVALUATIONS} evaluations on dev, learning rates {rates}; accuracy on test in %"
    )
    echo_table(title, COLUMNS, rows)


if __name__ == "__main__":
    main()
