"""What a head is trained for: cross entropy on classes, or CTC; and what it says, read from its logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from superbench.errors import IntegrityError


@dataclass(frozen=True)
class Targets:
    """Label indices of some utterances, one after the other, and how many each has."""

    labels: Tensor  # [sum of sizes], on the device
    sizes: Tensor  # [B], on the CPU

    @classmethod
    def of(cls, targets: Sequence[Sequence[int]], device: str | torch.device = "cpu") -> Targets:
        """From one row of label indices per utterance."""
        flat = torch.tensor([i for target in targets for i in target], dtype=torch.long, device=device)
        return cls(flat, torch.tensor([len(target) for target in targets]))

    def __len__(self) -> int:
        return len(self.sizes)


def losses_of(objective: str, blank: int, logits: Tensor, lengths: Tensor | None, targets: Targets) -> Tensor:
    """Loss of every utterance under every candidate, [C, B], of logits_CBK (classes) or logits_CBTK (CTC).

    CTC: each utterance's loss over its target's length. Their mean over an effective batch is s3prl's
    nn.CrossEntropyLoss() or nn.CTCLoss(blank, zero_infinity=True), both with mean reduction.
    """
    candidates, utterances = logits.shape[:2]
    logits = logits.flatten(0, 1)
    labels = targets.labels.repeat(candidates)
    if objective == "cross_entropy":
        return F.cross_entropy(logits, labels, reduction="none").view(candidates, utterances)
    if lengths is None:
        raise IntegrityError("CTC needs frames, but the features are pooled", "use a head that reads frames")
    sizes = targets.sizes.repeat(candidates)
    losses = F.ctc_loss(
        logits.log_softmax(dim=-1).transpose(0, 1),
        labels,
        lengths.repeat(candidates),
        sizes,
        blank=blank,
        reduction="none",
        zero_infinity=True,
    )
    return (losses / sizes.clamp(min=1).to(losses)).view(candidates, utterances)


def said(objective: str, blank: int, best: Tensor, frames: int) -> tuple[int, ...]:
    """What the best class says [], or the best of each frame [T]: repeats merged, no blanks (greedy CTC)."""
    if objective == "cross_entropy":
        return (int(best),)
    merged = torch.unique_consecutive(best[:frames])
    return tuple(s for s in merged.tolist() if s != blank)
