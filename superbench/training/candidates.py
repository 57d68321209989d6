"""Candidates that train side by side: one forward and backward pass of all where their head can, else one by one.

Either way each has its own weights, gradient norm, clip and Adam, and gets what it would get alone.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from superbench.dropout import drawn_for
from superbench.randomness import HELD
from superbench.sampling import derived_seed
from superbench.training.batches import MicroBatch
from superbench.training.objectives import Targets, losses_of

AUTOCAST = ("bfloat16",)  # precisions in which products are rounded and weights are not

Losses = Callable[[Tensor, Tensor | None, Targets], Tensor]  # logits_C.., lengths, targets -> [C, B]


class Candidates:
    """Heads of the same shape, a learning rate each: those of lane 0, then those of lane 1, and so on."""

    def __init__(
        self, models: Sequence[nn.Module], lrs: Sequence[float], *, lanes: int = 1, precision: str = "float32"
    ) -> None:
        self.models, self.lanes, self.precision = list(models), lanes, precision
        self.device = next(models[0].parameters()).device.type
        together = getattr(models[0], "together", None)
        assert lanes == 1 or together is not None, "only heads that go together may have several lanes"
        self._heads: _Heads = _OneByOne(models) if together is None else _Together(models, together, lanes)
        groups = [{"params": list(m.parameters()), "lr": lr} for m, lr in zip(models, lrs, strict=True)]
        self.optimizer = torch.optim.Adam(groups, fused=True)

    def step(
        self, micro_batches: Sequence[MicroBatch], *, objective: str, blank: int, clip: float
    ) -> tuple[list[float], list[float]]:
        """One optimiser step of each: the losses of all micro-batches, one clipped gradient, one update.

        Returns each candidate's loss and the norm of its gradient before clipping.
        """
        found = self.gradients(micro_batches, objective=objective, blank=blank, clip=clip)
        self.update(found[1])
        return found

    def gradients(
        self, micro_batches: Sequence[MicroBatch], *, objective: str, blank: int, clip: float
    ) -> tuple[list[float], list[float]]:
        """Each candidate's loss, and the norm of its gradient before clipping; may be called again if it fails."""

        def losses(logits: Tensor, lengths: Tensor | None, targets: Targets) -> Tensor:
            return losses_of(objective, blank, _wide(logits), lengths, targets)

        self._heads.forget()
        parts = []
        for micro in micro_batches:
            with self._rounding():
                parts.append(self._heads.gradients(micro, losses))
        norms = self._heads.norms()
        self._heads.clip(norms, clip)
        losses_C, norms_C = torch.stack((torch.stack(parts).sum(dim=0), norms)).tolist()
        return losses_C, norms_C

    def update(self, norms: Sequence[float]) -> None:
        """Apply the gradients whose norms are finite.

        A step whose gradient is not counts all the same (s3prl ec8064b, downstream/runner.py).
        """
        for model, norm in zip(self.models, norms, strict=True):
            if not math.isfinite(norm):
                model.zero_grad(set_to_none=True)  # Adam leaves it, and its count of steps, as they are
        self.optimizer.step()

    def logits(self, lane: int, x: Tensor, lengths: Tensor | None) -> Iterator[Tensor]:
        """What each candidate of a lane says of x_BLD or x_BLTD: logits_BK or logits_BTK."""
        number = len(self.models) // self.lanes
        with self._rounding():
            yield from self._heads.logits(slice(lane * number, (lane + 1) * number), x, lengths)

    def train(self, mode: bool = True) -> None:
        """Dropout on, or off."""
        for model in self.models:
            model.train(mode)

    def _rounding(self) -> contextlib.AbstractContextManager[object]:
        if self.precision in AUTOCAST:
            return torch.autocast(self.device, dtype=getattr(torch, self.precision))
        return contextlib.nullcontext()


class _Heads(Protocol):
    """How several heads go forward and back."""

    def forget(self) -> None:
        """Drop all gradients."""
        ...

    def gradients(self, micro: MicroBatch, losses: Losses) -> Tensor:
        """Add the gradients of one micro-batch to each model's; return its part of each candidate's loss, [C]."""
        ...

    def norms(self) -> Tensor:
        """Norm of each candidate's gradient, [C]: of the norms of its tensors, as torch's clip_grad_norm_ has it."""
        ...

    def clip(self, norms: Tensor, largest: float) -> None:
        """Scale each gradient whose norm is larger, as torch's clip_grad_norm_ does."""
        ...

    def logits(self, which: slice, x: Tensor, lengths: Tensor | None) -> Iterator[Tensor]:
        """What some of the heads say, one after the other."""
        ...


class _Together:
    """All heads in one pass, from stacked parameters [C, ...] of which each model's own are views."""

    def __init__(self, models: Sequence[nn.Module], together: Callable[..., Tensor], lanes: int) -> None:
        self._together, self._lanes = together, lanes
        self._stacked: dict[str, Tensor] = {}
        self._own: list[tuple[Tensor, list[nn.Parameter]]] = []  # each stacked tensor, and its views by model
        for name, _ in models[0].named_parameters():
            own = [m.get_parameter(name) for m in models]
            stacked = torch.stack([p.detach() for p in own]).requires_grad_()
            for parameter, part in zip(own, stacked.detach(), strict=True):
                parameter.data = part
            self._stacked[name] = stacked
            self._own.append((stacked, own))

    def forget(self) -> None:
        for stacked, own in self._own:
            stacked.grad = None
            for parameter in own:
                parameter.grad = None

    def gradients(self, micro: MicroBatch, losses: Losses) -> Tensor:
        logits = self._together(self._stacked, micro.x, micro.lengths, lanes=self._lanes, augment=micro.augment)
        candidates, utterances = logits.shape[:2]
        if self._lanes == 1:
            found = losses(logits, micro.lengths, micro.targets)
        else:  # lane, candidate, utterance: each lane has utterances, of one label each, of its own
            labels = micro.targets.labels.view(self._lanes, 1, utterances).expand(-1, candidates // self._lanes, -1)
            targets = Targets(labels.flatten(), micro.targets.sizes)
            found = losses(logits.flatten(0, 1)[None], None, targets)
        shares = micro.shares.view(self._lanes, 1, utterances)
        weighted = (found.view(self._lanes, -1, utterances) * shares).sum(dim=-1).flatten()
        torch.autograd.backward(weighted.sum())
        return weighted.detach()

    def norms(self) -> Tensor:
        norms = []
        for stacked, own in self._own:
            gradients = stacked.grad
            if gradients is None:  # the head has no use for it
                continue
            norms.append(torch.linalg.vector_norm(gradients.flatten(1), dim=1))
            for parameter, gradient in zip(own, gradients, strict=True):
                parameter.grad = gradient
        found: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        return found

    def clip(self, norms: Tensor, largest: float) -> None:
        scales = (largest / (norms + 1e-6)).clamp(max=1.0)
        for stacked, _ in self._own:
            if stacked.grad is not None:
                stacked.grad.mul_(scales.view(-1, *[1] * (stacked.dim() - 1)))

    def logits(self, which: slice, x: Tensor, lengths: Tensor | None) -> Iterator[Tensor]:
        yield from self._together({name: tensor[which] for name, tensor in self._stacked.items()}, x, lengths)


class _OneByOne:
    """One head after the other, on the same features."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self._models = models

    def forget(self) -> None:
        for model in self._models:
            model.zero_grad(set_to_none=True)

    def gradients(self, micro: MicroBatch, losses: Losses) -> Tensor:
        found = []
        for model in self._models:
            with _drawn(micro):
                more = (micro.augment,) if micro.augment else ()
                logits = model(micro.x, micro.lengths, *more)
            loss = (losses(logits[None], micro.lengths, micro.targets) * micro.shares).sum()
            torch.autograd.backward(loss)
            found.append(loss.detach())
        return torch.stack(found)

    def norms(self) -> Tensor:
        return torch.stack([nn.utils.get_total_norm(_gradients(m)) for m in self._models])

    def clip(self, norms: Tensor, largest: float) -> None:
        for model, norm in zip(self._models, norms, strict=True):
            nn.utils.clip_grads_with_norm_(model.parameters(), largest, norm)

    def logits(self, which: slice, x: Tensor, lengths: Tensor | None) -> Iterator[Tensor]:
        for model in self._models[which]:
            yield model(x, lengths)


def _gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


@contextlib.contextmanager
def _drawn(micro: MicroBatch) -> Iterator[None]:
    """What a head draws at random is a function of seed, step and utterance, and the same for every candidate."""
    if micro.place is None:
        yield
        return
    seed, step, first = micro.place
    with HELD, drawn_for(seed, step, first):
        _reseed(derived_seed(seed, "step", step, first), micro.x.device.type)
        yield


def _reseed(seed: int, device: str) -> None:
    """What `torch.manual_seed` does for one device, at a hundredth of its cost: it formats a stack trace each time."""
    torch.default_generator.manual_seed(seed)
    if device == "cuda":
        torch.cuda.manual_seed(seed)


def _wide(logits: Tensor) -> Tensor:
    """Losses are never computed in half precision."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
