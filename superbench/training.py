"""Stage 3: fit one head on frozen features, exactly as the protocol says, and pick its best step on dev.

Everything random derives from (seed, step): a run killed anywhere and resumed gives the bytes of one never killed.
Shapes: pooled features x_BLD; frames x_BLTD with lengths_B. An effective batch is what one step of the optimiser sees.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from superbench import augmentation as augmenting
from superbench.errors import IntegrityError
from superbench.plugin import TaskProtocol
from superbench.progress import Bar
from superbench.sampling import Batches, derived_seed
from superbench.writing import write_whole

EVALUATED = 16  # utterances at a time, sorted by length
EVALUATED_POOLED = 1024  # of these each is one vector per layer

Model = TypeVar("Model", bound=nn.Module)


class Examples(Protocol):
    """Features and targets of a corpus, by index."""

    lengths: tuple[int, ...]  # frames of each utterance (1 where pooled)
    targets: tuple[tuple[int, ...], ...]

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Features of some utterances, padded, on the device; and their lengths, or None where pooled."""
        ...


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """A part of an effective batch: as much as goes through the head at a time."""

    x: Tensor  # x_BLD or x_BLTD, on the device
    lengths: Tensor | None  # lengths_B, on the CPU; None where pooled
    targets: list[tuple[int, ...]]
    weight: float  # of its mean loss in the loss of the step
    augment: Callable[[Tensor, Tensor], Tensor] | None = None  # what happens to the weighted sum, in training


def loss_of(
    objective: str, blank: int, logits: Tensor, lengths: Tensor | None, targets: list[tuple[int, ...]]
) -> Tensor:
    """Mean loss of a micro-batch: cross entropy on classes, or CTC with each utterance's loss over its target's length.

    Source: s3prl's nn.CrossEntropyLoss() and nn.CTCLoss(blank, zero_infinity=True), both with mean reduction.
    """
    if objective == "cross_entropy":
        wanted = torch.tensor([t[0] for t in targets], device=logits.device)
        return F.cross_entropy(logits, wanted)
    if lengths is None:
        raise IntegrityError("CTC needs frames, but the features are pooled", "use a head that reads frames")
    return F.ctc_loss(
        logits.log_softmax(dim=-1).transpose(0, 1),
        torch.tensor([i for t in targets for i in t], device=logits.device),
        lengths,
        torch.tensor([len(t) for t in targets]),
        blank=blank,
        zero_infinity=True,
    )


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    micro_batches: Sequence[MicroBatch],
    *,
    objective: str,
    blank: int,
    clip: float,
) -> tuple[list[float], float]:
    """One optimiser step: the weighted losses of all micro-batches, one clipped gradient, one update.

    Returns the losses (before they are weighted) and the gradient norm before clipping. A gradient that is not finite
    is not applied; the step counts all the same (s3prl ec8064b, downstream/runner.py).
    """
    losses = []
    optimizer.zero_grad(set_to_none=True)
    for micro in micro_batches:
        logits = model(micro.x, micro.lengths, micro.augment) if micro.augment else model(micro.x, micro.lengths)
        loss = loss_of(objective, blank, logits, micro.lengths, micro.targets)
        (loss * micro.weight).backward()  # type: ignore[no-untyped-call]
        losses.append(float(loss.detach()))
    norm = float(nn.utils.clip_grad_norm_(model.parameters(), clip))
    if math.isfinite(norm):
        optimizer.step()
    return losses, norm


@torch.inference_mode()
def predict(
    model: nn.Module, examples: Examples, indices: Sequence[int], *, objective: str, blank: int
) -> dict[int, tuple[int, ...]]:
    """Index sequences per utterance: the best class, or greedy CTC (best per frame, repeats merged, no blanks)."""
    model.eval()
    found: dict[int, tuple[int, ...]] = {}
    ordered = sorted(indices, key=lambda i: (examples.lengths[i], i))
    batch = EVALUATED if max(examples.lengths) > 1 else EVALUATED_POOLED
    for first in range(0, len(ordered), batch):
        chunk = ordered[first : first + batch]
        x, lengths = examples.batch(chunk)
        best = model(x, lengths).argmax(dim=-1).cpu()
        for row, i in enumerate(chunk):
            if objective == "cross_entropy":
                found[i] = (int(best[row]),)
            else:
                merged = best[row, : examples.lengths[i]].unique_consecutive().tolist()
                found[i] = tuple(s for s in merged if s != blank)
    return found


@torch.inference_mode()
def log_probabilities(model: nn.Module, examples: Examples, index: int) -> Tensor:
    """What a CTC head says of one utterance alone: [T, C], float32, on the CPU."""
    model.eval()
    x, lengths = examples.batch([index])
    said: Tensor = model(x, lengths)[0, : examples.lengths[index]].log_softmax(dim=-1).float().cpu()
    return said


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


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate: a learning rate and a seed on one partition."""

    protocol: TaskProtocol
    lr: float
    seed: int
    blank: int
    direction: str  # of the selection metric: "min" or "max"
    device: str
    threads: int | None  # of the CPU; None: as torch has it
    micro_batch: int  # utterances at a time; weighted, so that their split changes nothing
    batches: Batches  # what each step trains on
    dev: tuple[int, ...]  # distinct utterances that `evaluate` wants predictions of


@contextlib.contextmanager
def cpu_threads(number: int | None) -> Iterator[None]:
    """Compute on so many threads; None: on as many as torch has."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _save(path: Path, state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path, buffer.getvalue())


def _load(path: Path, bar: Bar) -> dict[str, Any] | None:
    """The state of an earlier process; a damaged one is put aside, and the candidate trained again."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except Exception as exc:  # noqa: BLE001 - whatever unpickling damaged bytes raises
        aside = path.with_suffix(f".corrupt-{secrets.token_hex(4)}")
        path.rename(aside)
        bar.warn(f"{path.name} was damaged ({type(exc).__name__}) and put aside as {aside.name}; trained again")
        return None
    return state


def fit(
    build: Callable[[], Model],
    examples: Examples,
    trial: Trial,
    *,
    evaluate: Callable[[dict[int, tuple[int, ...]]], float],
    path: Path,
    bar: Bar,
) -> tuple[Fitted, Model]:
    """Train one candidate, going on where an earlier process stopped, and return it with its best weights.

    `path` holds the state at every evaluation, and in the end the outcome. `evaluate` scores dev predictions.
    """
    protocol = trial.protocol
    cuda = [torch.device(trial.device)] if torch.device(trial.device).type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), cpu_threads(trial.threads):
        torch.manual_seed(derived_seed(trial.seed, "init"))
        model = build().to(trial.device)
        state = _load(path, bar)
        if state is None:
            optimizer = torch.optim.Adam(model.parameters(), lr=trial.lr)
            worst = math.inf if trial.direction == "min" else -math.inf
            start = worst if protocol.must_beat is None else protocol.must_beat
            state = {"step": 0, "dev": start, "best_step": 0, "best": None, "losses": [], "nan_steps": 0, "curve": []}
        elif state["step"] < protocol.steps:
            optimizer = torch.optim.Adam(model.parameters(), lr=trial.lr)
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
        bar.advance(state["step"])
        while state["step"] < protocol.steps:
            _advance(model, optimizer, examples, trial=trial, state=state, bar=bar)
            state["dev"], state["best_step"], state["best"] = _select(model, examples, trial, state, evaluate)
            done = state["step"] == protocol.steps
            state["model"] = None if done else model.state_dict()
            state["optimizer"] = None if done else optimizer.state_dict()
            _save(path, state)
    improved = state["best_step"] > 0
    model.load_state_dict(state["best"])
    tail = [loss for loss in state["losses"][-max(1, protocol.steps // 10) :] if math.isfinite(loss)]
    fitted = Fitted(
        lr=trial.lr,
        seed=trial.seed,
        dev=state["dev"] if improved else state["curve"][-1][1],
        best_step=state["best_step"] if improved else protocol.steps,
        improved=improved,
        train_loss=sum(tail) / len(tail) if tail else None,
        nan_steps=state["nan_steps"],
        curve=tuple((s, d) for s, d in state["curve"]),
    )
    return fitted, model


def _advance(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    examples: Examples,
    *,
    trial: Trial,
    state: dict[str, Any],
    bar: Bar,
) -> None:
    """Train to the next evaluation."""
    protocol = trial.protocol
    model.train()
    for step in _until_evaluation(state["step"], protocol):
        _reseed(derived_seed(trial.seed, "step", step), trial.device)
        micro = micro_batches(trial, examples, step)
        losses, norm = train_step(
            model, optimizer, micro, objective=protocol.objective, blank=trial.blank, clip=protocol.clip
        )
        state["step"] = step + 1
        state["losses"].append(sum(m.weight * loss for m, loss in zip(micro, losses, strict=True)))
        state["nan_steps"] += not math.isfinite(norm)
        bar.advance(1, f"lr {trial.lr:g}, seed {trial.seed}, loss {state['losses'][-1]:.3f}")


def _reseed(seed: int, device: str) -> None:
    """What `torch.manual_seed` does for one device, at a hundredth of its cost: it formats a stack trace each time."""
    torch.default_generator.manual_seed(seed)
    if torch.device(device).type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def micro_batches(trial: Trial, examples: Examples, step: int) -> list[MicroBatch]:
    """The effective batch of a step in parts of at most `micro_batch` utterances.

    Each of its batches counts the same, and within one each utterance, whatever the parts: where all batches are alike
    in number they are cut together, so that parts hold utterances of like length. What augments them is drawn for the
    whole effective batch.
    """
    batches = trial.batches(step)
    wholes = [list(itertools.chain(*batches))] if len({len(b) for b in batches}) == 1 else batches
    for whole in wholes:
        whole.sort(key=lambda i: examples.lengths[i])
    constants, everyone = trial.protocol.augment, list(itertools.chain(*wholes))
    micro: list[MicroBatch] = []
    augmentation = None
    done = 0
    for whole in wholes:
        for first in range(0, len(whole), trial.micro_batch):
            chunk = whole[first : first + trial.micro_batch]
            x, lengths = examples.batch(chunk)
            if constants and augmentation is None:
                frames = [examples.lengths[i] for i in everyone]
                seed = derived_seed(trial.seed, "augment", step)
                augmentation = augmenting.draw(constants, frames, x.shape[-1], seed)
            micro.append(
                MicroBatch(
                    x=x,
                    lengths=lengths,
                    targets=[examples.targets[i] for i in chunk],
                    weight=len(chunk) / len(whole) / len(wholes),
                    augment=augmentation[done : done + len(chunk)] if augmentation else None,
                )
            )
            done += len(chunk)
    return micro


def _until_evaluation(step: int, protocol: TaskProtocol) -> Iterator[int]:
    following = (step // protocol.eval_every + 1) * protocol.eval_every
    return iter(range(step, min(following, protocol.steps)))


def _select(
    model: nn.Module,
    examples: Examples,
    trial: Trial,
    state: dict[str, Any],
    evaluate: Callable[[dict[int, tuple[int, ...]]], float],
) -> tuple[float, int, dict[str, Tensor]]:
    """Keep the first best step: only a strictly better dev score replaces it; before any, the last step stands."""
    found = predict(model, examples, trial.dev, objective=trial.protocol.objective, blank=trial.blank)
    dev = evaluate(found)
    state["curve"].append([state["step"], dev])
    better = dev < state["dev"] if trial.direction == "min" else dev > state["dev"]
    if better or state["best_step"] == 0:
        weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
        return (dev, state["step"], weights) if better else (state["dev"], 0, weights)
    return state["dev"], state["best_step"], state["best"]
