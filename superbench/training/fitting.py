"""Train candidates side by side, going on where an earlier process stopped, and keep each one's best step."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from superbench.plugin import TaskProtocol
from superbench.progress import Bar
from superbench.sampling import derived_seed
from superbench.training import checkpoints
from superbench.training.batches import AHEAD, Examples, MicroBatch, Order, ahead, micro_batches
from superbench.training.candidates import Candidates
from superbench.training.memory import fewer, out_of_memory, within_memory
from superbench.training.prediction import Said, at_a_time, predict_all

Model = TypeVar("Model", bound=nn.Module)
Prepared = tuple[int, list[MicroBatch] | None]
"""How many utterances at a time were tried for a step, and its micro-batches; None where memory ran out."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What all candidates of a search share."""

    protocol: TaskProtocol  # its `lr_grid` is what is tried
    blank: int
    direction: str  # of the selection metric: "min" or "max"
    device: str
    threads: int | None  # of the CPU; None: as torch has it
    micro_batch: int  # utterances at a time; weighted, so that their split changes nothing
    precision: str = "float32"  # or "float64"; "bfloat16": products are rounded, weights are float32


@dataclass(frozen=True, kw_only=True)
class Lane:
    """Candidates that see the same batches: a seed on a partition, with every learning rate."""

    name: str  # unique among those whose state lies in one folder
    order: Order
    dev: tuple[int, ...]  # distinct utterances that `evaluate` wants predictions of
    evaluate: Callable[[Said], float]  # predictions of dev to their score


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A trained head: the weights of its best step on dev, and how it got there."""

    lr: float
    seed: int
    dev: float
    best_step: int
    improved: bool
    train_loss: float | None  # mean over the last tenth of the steps; None where none of them was finite
    nan_steps: int
    curve: tuple[tuple[int, float], ...]  # (step, dev score) at every evaluation
    micro_batch: int = 0  # utterances at a time in the end: fewer than at the start where memory ran out


@contextlib.contextmanager
def cpu_threads(number: int | None) -> Iterator[None]:
    """Compute on so many threads; None: on as many as torch has."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit(
    build: Callable[[], Model], examples: Examples, trial: Trial, lanes: Sequence[Lane], *, folder: Path, bar: Bar
) -> dict[tuple[str, float], tuple[Fitted, Model]]:
    """Train every learning rate of some lanes together: by lane and learning rate, what came of it, and its best head.

    Several lanes must draw effective batches of one size, without augmentation. `folder` holds the state of each group
    at its last evaluation, and what came of groups that are done, whatever they were then trained with.
    """
    outcomes = _kept(trial, lanes, folder, bar)
    for lane_group, lrs in _lacking(trial, lanes, outcomes):
        outcomes |= _train(build, examples, trial, lane_group, lrs, folder=folder, bar=bar)
    found = {}
    for lane in lanes:
        for lr in trial.protocol.lr_grid:
            outcome = outcomes[_member(lane, lr)]
            model = _built(build, trial, lane.order.seed)
            model.load_state_dict(outcome["best"])
            found[lane.name, lr] = _fitted(outcome, lr, lane.order.seed, trial), model
    return found


def _member(lane: Lane, lr: float) -> str:
    return f"{lane.name}-lr{lr!r}"


def _kept(trial: Trial, lanes: Sequence[Lane], folder: Path, bar: Bar) -> dict[str, dict[str, Any]]:
    """What came of the candidates that are done."""
    wanted = {_member(lane, lr) for lane in lanes for lr in trial.protocol.lr_grid}
    outcomes: dict[str, dict[str, Any]] = {}
    for checkpoint in checkpoints.listed(folder, bar):
        if checkpoint.done and wanted & set(checkpoint.members) - set(outcomes):
            state = checkpoints.load(checkpoint, trial.device, bar)
            if state is not None:
                found = dict(zip(checkpoint.members, state["candidates"], strict=True))
                outcomes |= {name: found[name] for name in wanted & set(found) - set(outcomes)}
    bar.advance(len(outcomes) * trial.protocol.steps)
    return outcomes


def _lacking(
    trial: Trial, lanes: Sequence[Lane], outcomes: dict[str, dict[str, Any]]
) -> list[tuple[list[Lane], tuple[float, ...]]]:
    """Lanes that lack the same learning rates, together."""
    groups: dict[tuple[float, ...], list[Lane]] = {}
    for lane in lanes:
        lacking = tuple(lr for lr in trial.protocol.lr_grid if _member(lane, lr) not in outcomes)
        if lacking:
            groups.setdefault(lacking, []).append(lane)
    return [(lane_group, lrs) for lrs, lane_group in groups.items()]


def _train(
    build: Callable[[], Model],
    examples: Examples,
    trial: Trial,
    lanes: Sequence[Lane],
    lrs: Sequence[float],
    *,
    folder: Path,
    bar: Bar,
) -> dict[str, dict[str, Any]]:
    members = [_member(lane, lr) for lane in lanes for lr in lrs]
    path = checkpoints.path_of(folder, members)
    cuda = [torch.device(trial.device)] if torch.device(trial.device).type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), cpu_threads(trial.threads):
        models = [_built(build, trial, lane.order.seed) for lane in lanes for _ in lrs]
        candidates = Candidates(models, [*lrs] * len(lanes), lanes=len(lanes), precision=trial.precision)
        kept = next((c for c in checkpoints.listed(folder, bar) if c.path == path and not c.done), None)
        state = checkpoints.load(kept, trial.device, bar) if kept else None
        if state is None:
            state = _start(trial, len(members))
        elif state["models"] is not None:  # another process may have finished it since it was listed
            candidates.optimizer.load_state_dict(state["optimizer"])
            for model, weights in zip(models, state["models"], strict=True):
                model.load_state_dict(weights)
        bar.advance(state["step"] * len(members))
        while state["step"] < trial.protocol.steps:
            _advance(candidates, examples, trial, lanes, lrs, state=state, bar=bar)
            _select(candidates, examples, trial, lanes, state)
            done = state["step"] == trial.protocol.steps
            state["models"] = None if done else [model.state_dict() for model in models]
            state["optimizer"] = None if done else candidates.optimizer.state_dict()
            checkpoints.save(path, members, state, done=done)
    return dict(zip(members, state["candidates"], strict=True))


def _built(build: Callable[[], Model], trial: Trial, seed: int) -> Model:
    """A fresh head, drawn from its seed alone: the same one for every learning rate."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "init"))
        return build().to(trial.device, torch.float64 if trial.precision == "float64" else torch.float32)


def _start(trial: Trial, number: int) -> dict[str, Any]:
    worst = math.inf if trial.direction == "min" else -math.inf
    start = worst if trial.protocol.must_beat is None else trial.protocol.must_beat
    fresh = {"dev": start, "best_step": 0, "best": None, "loss": 0.0, "finite": 0, "nan_steps": 0}
    return {
        "step": 0,
        "micro_batch": trial.micro_batch,
        "candidates": [{**fresh, "curve": []} for _ in range(number)],
        "models": None,
        "optimizer": None,
    }


def _advance(
    candidates: Candidates,
    examples: Examples,
    trial: Trial,
    lanes: Sequence[Lane],
    lrs: Sequence[float],
    *,
    state: dict[str, Any],
    bar: Bar,
) -> None:
    """Train to the next evaluation."""
    protocol, orders = trial.protocol, [lane.order for lane in lanes]
    last_tenth = protocol.steps - max(1, protocol.steps // 10)
    candidates.train()

    def make(step: int) -> Prepared:
        size = state["micro_batch"]
        return size, within_memory(lambda: micro_batches(orders, examples, step, protocol=protocol, size=size))

    def train(micro: list[MicroBatch]) -> tuple[list[float], list[float]] | None:
        return within_memory(
            lambda: candidates.gradients(micro, objective=protocol.objective, blank=trial.blank, clip=protocol.clip)
        )

    def update(norms: list[float]) -> bool:
        candidates.update(norms)
        return True

    with contextlib.closing(_prepared(make, examples, orders, state["step"], protocol)) as steps:
        for step, (size, prepared) in steps:
            # what was cut before memory ran out is cut again: how much that is depends on another thread
            micro = prepared if size == state["micro_batch"] else make(step)[1]
            done = train(micro) if micro is not None else None
            while done is None:
                state["micro_batch"] = fewer(state["micro_batch"], protocol.batch * protocol.accumulate, bar)
                micro = make(step)[1]
                done = train(micro) if micro is not None else None
            losses, norms = done
            if within_memory(functools.partial(update, norms)) is None:
                raise out_of_memory("the optimiser's first step")
            state["step"] = step + 1
            for candidate, loss, norm in zip(state["candidates"], losses, norms, strict=True):
                candidate["nan_steps"] += not math.isfinite(norm)
                if step >= last_tenth and math.isfinite(loss):
                    candidate["loss"] += loss
                    candidate["finite"] += 1
            shown = f"seed {lanes[0].order.seed}, lr {lrs[0]:g}, loss {losses[0]:.3f}"
            bar.advance(len(losses), shown + (f", and {len(losses) - 1} more" if len(losses) > 1 else ""))


def _prepared(
    make: Callable[[int], Prepared],
    examples: Examples,
    orders: Sequence[Order],
    step: int,
    protocol: TaskProtocol,
) -> Generator[tuple[int, Prepared]]:
    """The steps to the next evaluation with their micro-batches, as far ahead as the features allow."""
    until = min((step // protocol.eval_every + 1) * protocol.eval_every, protocol.steps)
    while step < until:
        coming = ([i for order in orders for i in order.indices(later)] for later in range(step, until))
        ready = within_memory(functools.partial(examples.expect, coming))
        if ready is None:
            raise out_of_memory("the features of the coming steps")
        ready = ready or until - step
        yield from ahead(make, range(step, step + ready), AHEAD if examples.reads_ahead else 0)
        step += ready


def _select(
    candidates: Candidates, examples: Examples, trial: Trial, lanes: Sequence[Lane], state: dict[str, Any]
) -> None:
    """Keep each first best step: only a strictly better dev score replaces it; before any, the last step stands."""
    number = len(candidates.models) // len(lanes)
    for at, lane in enumerate(lanes):
        said = _said(candidates, at, examples, lane.dev, trial)
        for candidate, model, found in zip(
            state["candidates"][at * number :], candidates.models[at * number :], said, strict=False
        ):
            dev = lane.evaluate(found)
            candidate["curve"].append([state["step"], dev])
            better = dev < candidate["dev"] if trial.direction == "min" else dev > candidate["dev"]
            if better or candidate["best_step"] == 0:
                candidate["best"] = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
            if better:
                candidate["dev"], candidate["best_step"] = dev, state["step"]
    for candidate in state["candidates"]:
        candidate["micro_batch"] = state["micro_batch"]


def _said(candidates: Candidates, lane: int, examples: Examples, dev: Sequence[int], trial: Trial) -> list[Said]:
    """Predictions of dev; fewer utterances at a time where memory runs out."""
    size = at_a_time(examples)
    while size:
        say = functools.partial(predict_all, candidates, lane, examples, dev, size=size)
        found = within_memory(functools.partial(say, objective=trial.protocol.objective, blank=trial.blank))
        if found is not None:
            return found
        size //= 2
    raise out_of_memory("the prediction of dev")


def _fitted(outcome: dict[str, Any], lr: float, seed: int, trial: Trial) -> Fitted:
    improved = outcome["best_step"] > 0
    return Fitted(
        lr=lr,
        seed=seed,
        dev=outcome["dev"] if improved else outcome["curve"][-1][1],
        best_step=outcome["best_step"] if improved else trial.protocol.steps,
        improved=improved,
        train_loss=outcome["loss"] / outcome["finite"] if outcome["finite"] else None,
        nan_steps=outcome["nan_steps"],
        curve=tuple((s, d) for s, d in outcome["curve"]),
        micro_batch=outcome["micro_batch"],
    )
