"""Stage 3: fit one head on frozen features, exactly as the protocol says, and pick its best step on dev.

Everything random derives from (seed, step): a run killed anywhere and resumed gives the bytes of one never killed.
Shapes: pooled features x_BLD; frames x_BLTD with lengths_B. An effective batch is `accumulate` micro-batches.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from superbench.errors import IntegrityError
from superbench.plugin import TaskProtocol
from superbench.progress import Bar
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


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed that is a function of its parts and of nothing else."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def _permutation(seed: int, epoch: int, size: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(derived_seed(seed, "epoch", epoch)))


def batch_of(seed: int, step: int, train: Sequence[int], size: int) -> list[int]:
    """Utterances of one effective batch: the endless row of shuffled epochs, cut into pieces of `size`.

    A function of (seed, step): no state to save, every learning rate sees the same order, no last batch is short.
    """
    n, first = len(train), step * size
    epochs = {e: _permutation(seed, e, n) for e in range(first // n, (first + size - 1) // n + 1)}
    return [train[int(epochs[i // n][i % n])] for i in range(first, first + size)]


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
    micro_batches: Sequence[tuple[Tensor, Tensor | None, list[tuple[int, ...]]]],
    *,
    objective: str,
    blank: int,
    clip: float,
) -> tuple[list[float], float]:
    """One optimiser step: losses over `accumulate` micro-batches, one clipped gradient, one update.

    Returns the losses (before division) and the gradient norm before clipping. A gradient that is not finite is not
    applied; the step counts all the same (s3prl ec8064b, downstream/runner.py).
    """
    losses = []
    optimizer.zero_grad(set_to_none=True)
    for x, lengths, targets in micro_batches:
        loss = loss_of(objective, blank, model(x, lengths), lengths, targets)
        (loss / len(micro_batches)).backward()  # type: ignore[no-untyped-call]
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
    micro_batch: int  # utterances at a time; all of a step's are alike in number, so that their split changes nothing
    train: tuple[int, ...]
    dev: tuple[int, ...]


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
    cuda = [torch.cuda.current_device()] if torch.device(trial.device).type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), cpu_threads(trial.threads):
        torch.manual_seed(derived_seed(trial.seed, "init"))
        model = build().to(trial.device)
        state = _load(path, bar)
        if state is None:
            optimizer = torch.optim.Adam(model.parameters(), lr=trial.lr)
            worst = 1.0 if trial.direction == "min" else 0.0
            state = {"step": 0, "dev": worst, "best_step": 0, "best": None, "losses": [], "nan_steps": 0, "curve": []}
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
        torch.manual_seed(derived_seed(trial.seed, "step", step))
        order = batch_of(trial.seed, step, trial.train, protocol.batch * protocol.accumulate)
        order.sort(key=lambda i: examples.lengths[i])
        chunks = [order[i : i + trial.micro_batch] for i in range(0, len(order), trial.micro_batch)]
        micro = [(*examples.batch(c), [examples.targets[i] for i in c]) for c in chunks]
        losses, norm = train_step(
            model, optimizer, micro, objective=protocol.objective, blank=trial.blank, clip=protocol.clip
        )
        state["step"] = step + 1
        state["losses"].append(sum(losses) / len(losses))
        state["nan_steps"] += not math.isfinite(norm)
        bar.advance(1, f"lr {trial.lr:g}, seed {trial.seed}, loss {state['losses'][-1]:.3f}")


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
