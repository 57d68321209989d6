"""DinoSR: a student, its teacher, and a codebook for each of the teacher's top layers.

Shapes: B utterances, T frames, D width, K codebooks, V codewords in each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from superbench.errors import PluginError
from superbench_upstreams.encoder import Encoded, Encoder
from superbench_upstreams.frozen import Method, Output, linear

if TYPE_CHECKING:
    from superbench_upstreams.checkpoints import Checkpoint


class Clustered(Method):
    """A student encoder with prediction heads, the teacher's transformer, and the codebooks of its top K layers."""

    sums: Tensor  # [K, V, D]
    counts: Tensor  # [K, V]

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        extras = checkpoint.extras
        books = sum(name.startswith("codebooks.") for name in extras)
        if not 0 < books <= self.config.layers:
            raise PluginError(
                f"a DinoSR checkpoint with {books} codebooks for {self.config.layers} layers",
                "is it the whole file of a DinoSR training?",
            )
        self.heads = nn.ModuleList(linear(extras, f"heads.{k}") for k in range(books))
        self.register_buffer("sums", torch.stack([extras[f"codebooks.{k}"] for k in range(books)]).float())
        self.register_buffer("counts", torch.stack([extras[f"codebook_counts.{k}"] for k in range(books)]).float())
        self.teacher = Encoder(checkpoint.config)
        self.teacher.load_state_dict({**checkpoint.weights, **_below(extras, "teacher.")})
        self.teacher.fix()
        for shared in ("convolutions", "feature_norm", "projection"):  # nobody averages these
            setattr(self.teacher, shared, getattr(self.encoder, shared))

    @property
    def codewords(self) -> Tensor:
        """[K, V, D]; a codeword is the running sum of what was assigned to it over its running count."""
        return self.sums / self.counts[..., None]

    def outputs(self) -> dict[str, Output]:
        """What the student has; the codes, what the student predicts of them, and the teacher's layers."""
        books, words, _ = self.sums.shape
        width, layers = self.config.width, self.config.layers
        return {
            **super().outputs(),
            "codes": Output(widths=(books,), read=lambda e: (self.codes(e),), integers=True),
            "logits": Output(widths=(words,) * books, read=self.logits, needs=("last",)),
            "predictions": Output(
                widths=(books,),
                read=lambda e: (torch.stack([x.argmax(-1) for x in self.logits(e)], dim=-1),),
                needs=("last",),
                integers=True,
            ),
            "teacher": Output(widths=(width,) * (layers + 1), read=self._teacher_states),
        }

    def logits(self, encoded: Encoded) -> list[Tensor]:
        """What the student's heads say of each codebook's codes: K of [B, T, V]."""
        return [head(encoded.last) for head in self.heads]

    def targets(self, encoded: Encoded) -> list[Tensor]:
        """What the codebooks cluster: K of [B, T, D], the teacher's feed-forward outputs, instance-normalised."""
        x = self.teacher.position(encoded.projected, encoded.lengths)
        _, ffn, _ = self.teacher.transform(x, encoded.lengths, taps=("ffn",))
        return [_instance_normalised(layer, encoded.lengths) for layer in ffn[-len(self.heads) :]]

    def codes(self, encoded: Encoded) -> Tensor:
        """The nearest codeword of each frame in each codebook, [B, T, K]; integers."""
        found = []
        for target, codewords in zip(self.targets(encoded), self.codewords, strict=True):
            x = target.to(torch.promote_types(target.dtype, torch.float32))
            words = codewords.to(x.dtype)
            distance = words.square().sum(-1) - 2 * x @ words.T  # the frame's own length says nothing
            found.append(distance.argmin(dim=-1))
        return torch.stack(found, dim=-1)

    def _teacher_states(self, encoded: Encoded) -> Sequence[Tensor]:
        x = self.teacher.position(encoded.projected, encoded.lengths)
        states, _, last = self.teacher.transform(x, encoded.lengths)
        return (*states[:-1], last)


def _instance_normalised(x_BTD: Tensor, lengths: Sequence[int]) -> Tensor:
    """Each channel of each utterance to mean 0 and variance 1 over its own frames (eps 1e-5)."""
    rows = [F.layer_norm(x[:n].T, (n,)).T for x, n in zip(x_BTD, lengths, strict=True)]  # one frame alone: zeros
    return nn.utils.rnn.pad_sequence(rows, batch_first=True)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    found = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if not found:
        raise PluginError(
            "the checkpoint has no teacher (its moving average, `_ema`), which assigns the codes",
            "use the file that the training wrote, not one that was stripped",
        )
    return found
