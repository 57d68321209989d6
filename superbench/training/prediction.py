"""What trained heads say of utterances, without a gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from superbench.training.batches import Examples
from superbench.training.candidates import Candidates
from superbench.training.objectives import said

EVALUATED = 16  # utterances at a time, sorted by length
EVALUATED_POOLED = 1024  # of these each is one vector per layer
Said = dict[int, tuple[int, ...]]  # index sequences by utterance


@torch.inference_mode()
def predict_all(
    candidates: Candidates,
    lane: int,
    examples: Examples,
    indices: Sequence[int],
    *,
    objective: str,
    blank: int,
    size: int | None = None,
) -> list[Said]:
    """Index sequences per utterance, as each candidate of a lane has them: every feature is read once.

    `size`: utterances at a time, where it is not to be `at_a_time(examples)`.
    """
    candidates.train(False)
    found: list[Said] = []
    for chunk in _chunks(examples, indices, size or at_a_time(examples)):
        x, lengths = examples.batch(chunk)
        for number, logits in enumerate(candidates.logits(lane, x, lengths)):
            if number == len(found):
                found.append({})
            best = logits.argmax(dim=-1).cpu()
            for row, i in enumerate(chunk):
                found[number][i] = said(objective, blank, best[row], examples.lengths[i])
    return found


@torch.inference_mode()
def predict(model: nn.Module, examples: Examples, indices: Sequence[int], *, objective: str, blank: int) -> Said:
    """Index sequences per utterance: the best class, or greedy CTC (best per frame, repeats merged, no blanks)."""
    model.eval()
    found: Said = {}
    for chunk in _chunks(examples, indices, at_a_time(examples)):
        x, lengths = examples.batch(chunk)
        best = model(x, lengths).argmax(dim=-1).cpu()
        for row, i in enumerate(chunk):
            found[i] = said(objective, blank, best[row], examples.lengths[i])
    return found


@torch.inference_mode()
def log_probabilities(model: nn.Module, examples: Examples, index: int) -> Tensor:
    """What a CTC head says of one utterance alone: [T, C], float32, on the CPU."""
    model.eval()
    x, lengths = examples.batch([index])
    found: Tensor = model(x, lengths)[0, : examples.lengths[index]].log_softmax(dim=-1).float().cpu()
    return found


def at_a_time(examples: Examples) -> int:
    """Utterances that are predicted at a time."""
    return EVALUATED if max(examples.lengths) > 1 else EVALUATED_POOLED


def _chunks(examples: Examples, indices: Sequence[int], size: int) -> Iterator[list[int]]:
    ordered = sorted(indices, key=lambda i: (examples.lengths[i], i))
    for first in range(0, len(ordered), size):
        yield ordered[first : first + size]
