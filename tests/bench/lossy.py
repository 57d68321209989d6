"""What lossy stored frames cost in score, on real recordings: `python -m tests.bench.lossy SHARED`.

SHARED is the folder that has `data/` with real speech. Each task is run as `superbench run --store-dtype FORM` runs it,
with the same seeds in every form, on two kinds of features: an fbank, whose values reach 20 where it is not normalised,
and a HuBERT with random weights (not ASR, which learns nothing from it). A difference is the lossy form's score less
float32's of the same seed, in points, as mean and standard deviation over the seeds; beside it stands the deviation of
float32's own scores, which is what another seed does. KS, SID and ER keep time means, always in float32; they are
measured with a head that reads frames. ASR and PR hear strings of digits, made of recordings of one speaker each: they
are long enough for SpecAugment, and are learnt in so few steps. CTC is chaotic while it learns: there a rounding of
2^-11 moves a score as another seed does, so that only a mean over seeds tells anything. What a form does to the numbers
stands in each line: the error's root mean square as a part of the features' own, and of their deviation over time.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import torch

from superbench.cli.output import echo_table
from superbench.contracts import Result
from superbench.features.store import FeatureStore
from superbench.features.stored_forms import STORED_DTYPES
from superbench.pipeline import run_all
from superbench.pipeline.opening import open_upstream
from superbench.pipeline.prepared import Prepared, prepare_all
from superbench.places import places
from superbench.plan import RunRequest
from superbench.progress import Progress
from superbench.registry import Registry

from . import encoder
from .digit_strings import STRINGS, STRINGS_CSV, write_strings

PLUGIN = Path(__file__).with_name("mean_of_frames.py")
LOSSY = tuple(d for d in STORED_DTYPES if d != "float32")
METRICS = {"ks": ("accuracy",), "sid": ("accuracy",), "er": ("accuracy",), "pr": ("per",), "asr": ("wer", "uer")}
ENCODER = encoder.Shape(convolution=64, width=64, layers=3)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One task on one corpus: enough steps to be far from guessing, at a rate where a score is steady."""

    task: str
    manifest: str  # below `data/`, or of the strings of digits
    fbank: str  # time means of normalised features are all zero: only tasks on frames can have these
    lr: float
    steps: int
    head: str = ""
    label_column: str = ""
    lexicon: str = ""  # below `data/`
    encoder: bool = True  # False: on features of a random encoder it learns nothing in so few steps (WER 100 %)


MEAN = "mean_of_frames"
SMALL_BLSTM = "blstm:hidden=64,projector=64,layers=1,dropout=0"
TRIALS = (
    Trial(task="ks", manifest="fsdd/manifest.ks.csv", fbank="fbank_no_cmvn", lr=1e-3, steps=150, head=MEAN),
    Trial(task="sid", manifest="fsdd/manifest.sid.csv", fbank="fbank_no_cmvn", lr=1e-3, steps=100, head=MEAN),
    Trial(
        task="er",
        manifest="emodb/manifest.er.csv",
        fbank="fbank_no_cmvn",
        lr=1e-3,
        steps=30,
        head=MEAN,
        label_column="label4",
    ),
    Trial(task="pr", manifest=STRINGS_CSV, fbank="fbank", lr=3e-3, steps=300, lexicon="lexicon/lexicon.txt"),
    Trial(task="asr", manifest=STRINGS_CSV, fbank="fbank", lr=1e-2, steps=300, head=SMALL_BLSTM, encoder=False),
)
ENCODER_RATE = 1e-2  # of every task: features of a random encoder tell little, and its values are near one
QUICK_STEPS = 5
EVALUATIONS = 5


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What a form does to the features themselves, over all sounds of a corpus."""

    of_features: float  # rms of the error over the rms of the features
    of_deviation: float  # over the rms of what remains of them when each sound's mean over time is taken off
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Line:
    """One metric of one task in one form; scores in per cent, one per seed, of the same seeds on both sides."""

    task: str
    metric: str
    features: str
    form: str
    lossy: Sequence[float]
    exact: Sequence[float]
    loss: Loss

    @property
    def difference(self) -> float:
        """Mean over the seeds: above zero is better for an accuracy, worse for a rate of errors."""
        return statistics.fmean(self._apart)

    @property
    def deviation(self) -> float:
        return statistics.stdev(self._apart)

    @property
    def seeds(self) -> float:
        """Deviation of float32's own scores."""
        return statistics.stdev(self.exact)

    @property
    def _apart(self) -> list[float]:
        return [a - b for a, b in zip(self.lossy, self.exact, strict=True)]

    def cells(self) -> tuple[str, ...]:
        """As the table shows them."""
        return (
            self.task,
            self.metric,
            self.features,
            self.form,
            f"{statistics.fmean(self.exact):.2f}",
            f"{self.seeds:.2f}",
            f"{self.difference:+.2f} ± {self.deviation:.2f}",
            f"{100 * self.loss.of_features:.3f}",
            f"{100 * self.loss.of_deviation:.3f}",
            f"{self.loss.bytes / 2**20:.1f}",
            str(len(self.exact)),
        )


COLUMNS = (
    "task", "metric", "features", "form", "float32", "SD of seeds", "difference ± SD", "error, % of rms",
    "% of deviation", "MiB", "seeds",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where the data are, where features and runs go, and how much is run."""

    data: Path
    home: Path
    seeds: int
    quick: bool = False

    def lines(self, trial: Trial, upstream: str, name: str) -> Iterator[Line]:
        """Run all forms; one line for each lossy form and metric."""
        exact, scored = self.run(trial, upstream, "float32")
        for dtype in LOSSY:
            lossy, found = self.run(trial, upstream, dtype)
            loss = self.loss(lossy, exact)
            for metric in METRICS[trial.task]:
                yield Line(
                    task=trial.task,
                    metric=metric,
                    features=name,
                    form=str(lossy.form),
                    lossy=points(found, metric),
                    exact=points(scored, metric),
                    loss=loss,
                )

    def run(self, trial: Trial, upstream: str, dtype: str) -> tuple[Prepared, tuple[Result, ...]]:
        """One run of all seeds, as the command line does it."""
        manifest = (self.home if trial.manifest == STRINGS_CSV else self.data) / trial.manifest
        steps = QUICK_STEPS if self.quick else trial.steps
        request = RunRequest(
            upstream=upstream,
            task=(trial.task,),
            data=(str(manifest),),
            label_column=trial.label_column,
            resample=True,
            lexicon=(str(self.data / trial.lexicon),) if trial.lexicon else (),
            head=trial.head,
            lr=(trial.lr,),
            seeds=tuple(range(self.seeds)),
            steps=steps,
            eval_every=max(1, steps // EVALUATIONS),
            device="cpu",
            store="frames",
            store_dtype=dtype,  # type: ignore[arg-type]  # one of STORED_DTYPES
        )
        registry, settings, progress = Registry.load([str(PLUGIN)]), places(self.home), Progress()
        loaded = open_upstream(upstream, registry, "cpu")
        (prepared,) = prepare_all(request, registry, settings, loaded, progress)
        (results,) = run_all([prepared], settings, progress)
        return prepared, results

    def loss(self, lossy: Prepared, exact: Prepared) -> Loss:
        """Compare what is read back of two runs' features."""
        root = places(self.home).store
        ours, theirs = (FeatureStore(root, p.loaded.key, "frames", p.form.dtype) for p in (lossy, exact))
        error = features = deviation = 0.0
        for segment in exact.need.segments:
            for x, y in zip(ours.read(segment.content), theirs.read(segment.content), strict=True):
                exactly = y.double()
                error += float((x.double() - exactly).square().sum())
                features += float(exactly.square().sum())
                deviation += float((exactly - exactly.mean(dim=-2, keepdim=True)).square().sum())
        return Loss(
            of_features=(error / features) ** 0.5,
            of_deviation=(error / deviation) ** 0.5,
            bytes=lossy.need.bytes,
        )


def points(results: Sequence[Result], metric: str) -> list[float]:
    """Test scores of one metric by seed, in per cent."""
    return [100 * s.value for r in results for s in r.scores if s.metric == metric]


def measure(bench: Bench, tasks: Sequence[str], features: Sequence[str]) -> Iterator[Line]:
    """All lines, those of a task one after the other."""
    write_strings(bench.data / "fsdd/manifest.sid.csv", bench.home, STRINGS)
    checkpoint = bench.home / "encoder"
    if "encoder" in features:
        encoder.random_encoder(checkpoint, ENCODER)
    for trial in TRIALS:
        if trial.task in tasks and "fbank" in features:
            yield from bench.lines(trial, trial.fbank, trial.fbank)
        if trial.task in tasks and trial.encoder and "encoder" in features:
            reference = f"huggingface:checkpoint={checkpoint},normalize=false"
            yield from bench.lines(replace(trial, lr=ENCODER_RATE), reference, "random HuBERT")


@click.command()
@click.argument("shared", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--quick", is_flag=True, help="Few steps and two seeds: shows that all of it runs, and says nothing else."
)
@click.option("--only", multiple=True, type=click.Choice(tuple(METRICS)), help="These tasks alone.")
@click.option("--features", multiple=True, type=click.Choice(("fbank", "encoder")), help="These alone.")
@click.option("--seeds", default=5, type=click.IntRange(2), help="Of each run.  [5]")
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that keeps features and runs, so that a stopped measurement goes on.  [a temporary one]",
)
def main(
    shared: Path, quick: bool, only: tuple[str, ...], features: tuple[str, ...], seeds: int, home: Path | None
) -> None:
    """Measure what each lossy form does to the score of each task."""
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(data=shared / "data", home=(home or Path(temporary)).resolve(), seeds=seeds)
        bench = replace(bench, seeds=2, quick=True) if quick else bench
        for line in measure(bench, only or tuple(METRICS), features or ("fbank", "encoder")):
            rows.append(line.cells())
            click.echo("  " + " | ".join(rows[-1]), err=True)
    told = ", ".join(f"{t.task} {t.steps} steps at {t.lr:g}" for t in TRIALS)
    echo_table(f"test scores in %, lossy less float32: {told} (HuBERT {ENCODER_RATE:g})", COLUMNS, rows)


if __name__ == "__main__":
    main()
