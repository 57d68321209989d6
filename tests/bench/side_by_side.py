"""One task in both manners: s3prl's, whose encoder runs at every step, and ours, whose encoder runs once.

Both have the same encoder, sounds, batches and first weights, and must have the same losses at the first steps. A is
`s3prl_manner.train`; B is one pass into a store and all steps on what is stored. Five learning rates are five runs in
s3prl's manner (that five take five times as long as one is measured once) and one in ours.

What the ratio means: passes saved. It grows with steps x batch / recordings, and nears that where the encoder outweighs
the head. What it does not mean: an encoder that is faster by itself; both are ours. Lines that are extrapolated say
their arithmetic: what a second of sound costs in s3prl's manner, what it costs in the one pass, and what a step of ours
costs, times what SUPERB's run of the task has of each (`official`). Both sides grow in proportion to the sound heard,
but for s3prl's packed LSTM on a CPU, which grows faster: where it was measured on shorter sounds, A is the least.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from . import encoder, official, our_manner
from .comparison import Comparison, seconds
from .contest import RATES, Contest, Trial

AGREED = 2  # steps at the start whose losses are compared
TOLERANCE = 1e-3  # of these losses, relative: rounding


def compare_trial(trial: Trial) -> list[Comparison]:
    """A measured line for one and for five learning rates; and what they mean for SUPERB's run of the task."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        contest = Contest(trial, encoder.random_encoder(root / "checkpoint", trial.shape))
        contest.loaded(contest.sounds[:1])  # warm up
        if not trial.extrapolated:
            _agree(contest, contest.extract(root / "agreed"))
        rounds = [_round(contest, root / f"{i}") for i in range(trial.rounds)]
        if trial.extrapolated:
            return _extrapolated(contest, rounds)
        found = [_measured(contest, rounds, rates) for rates in (1, len(RATES))]
        if trial.all_runs:
            found.append(_all_runs(contest, rounds))
        return found


def _agree(contest: Contest, heard: our_manner.Heard) -> None:
    """Both manners must have the same losses at the start, from which they go on."""
    steps = min(AGREED, contest.trial.steps)
    theirs = contest.theirs(steps, dropout=0.0)
    ours = [of_step[0] for of_step in contest.ours(heard, steps, rates=len(RATES), dropout=0.0).losses]
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=TOLERANCE, atol=1e-5)


@dataclass(frozen=True, kw_only=True)
class Round:
    """Seconds of one round."""

    theirs: float
    extraction: float
    training: dict[int, float]  # by number of learning rates
    step: dict[int, float]  # at the official batch, where the trial is extrapolated
    bytes: int  # of what was stored


def _round(contest: Contest, folder: Path) -> Round:
    trial = contest.trial
    theirs = seconds(lambda: contest.theirs(trial.steps))
    kept: list[our_manner.Heard] = []
    extraction = seconds(lambda: kept.append(contest.extract(folder)))
    training, step = {}, {}
    for rates in (1, len(RATES)):
        if trial.extrapolated:
            step[rates] = _step_seconds(contest, kept[0], rates)
        else:
            training[rates] = seconds(lambda rates=rates: contest.ours(kept[0], trial.steps, rates=rates))  # type: ignore[misc]
    return Round(theirs=theirs, extraction=extraction, training=training, step=step, bytes=kept[0].need.bytes)


def _step_seconds(contest: Contest, heard: our_manner.Heard, rates: int) -> float:
    """One step of ours at the official batch, when the first, which makes room for everything, has been taken."""
    steps = contest.trial.extrapolated
    trained = contest.ours(heard, steps + 1, rates=rates, protocol=contest.official_protocol())
    return sum(trained.seconds[1:]) / steps


def _measured(contest: Contest, rounds: Sequence[Round], rates: int) -> Comparison:
    trial, name = contest.trial, contest.trial.task.name
    five = f"; A is that of one, times {rates}" if rates > 1 else ""
    return Comparison(
        benchmark=f"{name}, {rates} learning rate{'s' * (rates > 1)}",
        a="encoder at every step",
        b=f"encoder once, {contest.form}",
        unit="s",
        a_values=tuple(rates * r.theirs for r in rounds),
        b_values=tuple(r.extraction + r.training[rates] for r in rounds),
        note=f"{_encoder(trial)}; {trial.steps} steps of {_batch(trial)} over {trial.recordings} recordings of "
        f"{trial.seconds:g} s{five}",
    )


def _all_runs(contest: Contest, rounds: Sequence[Round]) -> Comparison:
    steps = contest.trial.steps
    each = seconds(lambda: [contest.theirs(steps, lr=lr) for lr in RATES])
    return Comparison(
        benchmark=f"{contest.trial.task.name}, s3prl's manner",
        a=f"{len(RATES)} runs, one learning rate each",
        b="one run",
        unit="s",
        a_values=(each,),
        b_values=(rounds[-1].theirs,),
        note="what the other lines take for granted",
    )


def _extrapolated(contest: Contest, rounds: Sequence[Round]) -> list[Comparison]:
    trial, name = contest.trial, contest.trial.task.name
    one = official.OFFICIAL[name]
    heard = contest.heard(contest.protocol, trial.steps)
    corpus = sum(len(s) for s in contest.sounds) / encoder.RATE
    of_a_step = contest.heard(contest.official_protocol(), 1)
    grown = one.heard / of_a_step if contest.form == "frames" else 1.0
    measured = (
        f"{_encoder(trial)}; A over {trial.steps} steps of {_batch(trial)} x {trial.seconds:g} s, B's steps over "
    )
    measured += f"{trial.extrapolated} of the official batch" + (f", x {grown:.3g} for their length" * (grown > 1.01))
    found = []
    for rates in (1, len(RATES)):
        costs = [
            official.Costs(theirs=r.theirs / heard, encode=r.extraction / corpus, step=r.step[rates] * grown)
            for r in rounds
        ]
        whole = [official.hours(one, c, rates) for c in costs]
        line = Comparison(
            benchmark=f"{name}, {rates} learning rate{'s' * (rates > 1)}",
            a="encoder at every step",
            b=f"encoder once, {contest.form}",
            unit="h",
            a_values=tuple(a for a, _, _ in whole),
            b_values=tuple(b for _, b, _ in whole),
            note=f"{measured}; {whole[0][2]}" + _room(contest, rounds[0].bytes / corpus),
            extrapolated=True,
        )
        found.append(line)
        if contest.form == "frames" and rates > 1:
            streamed = [official.hours_streamed(one, c) for c in costs]
            found.append(
                replace(
                    line,
                    b="frames streamed, none kept",
                    b_values=tuple(b for b, _ in streamed),
                    note=f"{measured}; {streamed[0][1]}",
                )
            )
    return found


def _room(contest: Contest, bytes_per_second: float) -> str:
    """What the frames of the whole corpus take on a disk."""
    if contest.form == "pooled":
        return ""
    whole = official.OFFICIAL[contest.trial.task.name].corpus * bytes_per_second
    return f"; the frames take {whole / 1e9:.0f} GB as float32, and here they were in memory"


def _encoder(trial: Trial) -> str:
    return f"encoder of {trial.shape.layers} x {trial.shape.width}, {torch.get_num_threads()} threads"


def _batch(trial: Trial) -> str:
    return f"{trial.accumulate} x {trial.batch}" if trial.accumulate > 1 else f"{trial.batch}"
