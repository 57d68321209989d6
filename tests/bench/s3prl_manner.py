"""Training as s3prl does it: at every step the frozen encoder hears the batch, and one head takes one step.

Waves -> encoder under `no_grad` -> weighted sum of its states -> head -> loss -> gradients, clipped -> Adam. Several
learning rates are several such runs. Facts: s3prl@ec8064b `downstream/runner.py`, `upstream/interfaces.py`, and each
task's `model.py`; nothing is copied. The encoder is ours, in one call per batch, and so is the draw of SpecAugment, so
that both manners hear the same and their losses can be compared.

Shapes: B utterances of a batch, L layers, T frames, D features, K classes. A wave is [n].
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from superbench import augmentation
from superbench.features.extraction import LoadedUpstream
from superbench.plugin import TaskProtocol
from superbench.sampling import derived_seed
from superbench_downstreams.blstm import BlstmHead

Steps = Sequence[list[list[int]]]  # of each step its batches, by index


class MeanOfFrames(nn.Module):
    """`Linear -> mean over an utterance's own frames -> Linear`: KS, SID and ER."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.projector, self.linear = _copied(ours.get_submodule("projector")), _copied(ours.get_submodule("linear"))

    def forward(self, x_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        y_BTP = self.projector(x_BTD)
        valid_BT = torch.arange(y_BTP.shape[1], device=x_BTD.device)[None] < lengths_B.to(x_BTD.device)[:, None]
        mean_BP = (y_BTP * valid_BT[..., None]).sum(dim=1) / lengths_B.to(y_BTP)[:, None]
        logits_BK: Tensor = self.linear(mean_BP)
        return logits_BK


class EveryFrame(nn.Module):
    """`Linear -> Linear` on every frame: PR."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.projector, self.linear = _copied(ours.get_submodule("projector")), _copied(ours.get_submodule("linear"))

    def forward(self, x_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        logits_BTK: Tensor = self.linear(self.projector(x_BTD))
        return logits_BTK


class PackedBlstm(nn.Module):
    """`Linear -> packed bidirectional LSTMs, dropout after each -> Linear`: ASR."""

    def __init__(self, ours: BlstmHead) -> None:
        super().__init__()
        self.projector, self.linear, self.dropout = _copied(ours.projector), _copied(ours.linear), ours.dropout.p
        self.layers = nn.ModuleList()
        for ahead, back in zip(ours.forwards, ours.backwards, strict=True):
            lstm = nn.LSTM(ahead.input_size, ahead.hidden_size, bidirectional=True, batch_first=True)
            for name, parameter in ahead.named_parameters():
                getattr(lstm, name).data.copy_(parameter.data)
                getattr(lstm, f"{name}_reverse").data.copy_(back.get_parameter(name).data)
            self.layers.append(lstm)

    def forward(self, x_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        x_BTD = self.projector(x_BTD)
        for lstm in self.layers:
            packed = nn.utils.rnn.pack_padded_sequence(x_BTD, lengths_B, batch_first=True, enforce_sorted=False)
            unpacked = nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True)[0]
            x_BTD = F.dropout(unpacked, self.dropout, self.training)
        logits_BTK: Tensor = self.linear(x_BTD)
        return logits_BTK


class Learner(nn.Module):
    """A head with the weights of one of ours, on a weighted sum of whole hidden states."""

    def __init__(self, layers: int, ours: nn.Module, protocol: TaskProtocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.weights = nn.Parameter(torch.zeros(layers))
        if isinstance(ours, BlstmHead):
            self.head: nn.Module = PackedBlstm(ours)
        elif protocol.objective == "ctc":
            self.head = EveryFrame(ours)
        else:
            self.head = MeanOfFrames(ours)

    def forward(
        self, states: Sequence[Tensor], lengths_B: Tensor, augment: augmentation.Augmentation | None = None
    ) -> Tensor:
        """Logits of one padded batch, of the states x_BTD of every layer."""
        stacked_LBTD = torch.stack(list(states))
        x_BTD = (self.weights.softmax(dim=0)[:, None, None, None] * stacked_LBTD).sum(dim=0)
        if augment is not None:
            x_BTD = augment(x_BTD, lengths_B)
        logits: Tensor = self.head(x_BTD, lengths_B)
        return logits

    def loss(self, logits: Tensor, lengths_B: Tensor, targets: Sequence[Sequence[int]]) -> Tensor:
        """Mean over the batch; CTC's of each utterance over the length of its target. Blank is class 0."""
        flat = torch.tensor([*itertools.chain(*targets)], device=logits.device)
        if self.protocol.objective == "cross_entropy":
            return F.cross_entropy(logits, flat)
        sizes = torch.tensor([len(t) for t in targets])
        said_TBK = logits.log_softmax(dim=-1).transpose(0, 1)
        return F.ctc_loss(said_TBK, flat, lengths_B, sizes, blank=0, zero_infinity=True)


def train(
    learner: Learner,
    loaded: LoadedUpstream,
    sounds: Sequence[Tensor],
    targets: Sequence[tuple[int, ...]],
    steps: Steps,
    *,
    lr: float,
) -> list[float]:
    """All steps of one run, each with the encoder in it; the loss of every step. No evaluation on dev."""
    protocol = learner.protocol
    optimizer = torch.optim.Adam(learner.parameters(), lr=lr)
    losses = []
    for step, batches in enumerate(steps):
        optimizer.zero_grad()
        whole = 0.0
        for batch in batches:
            ordered = sorted(batch, key=lambda i: loaded.frames(len(sounds[i]))[0])
            states, lengths = encode(loaded, [sounds[i] for i in ordered])
            augment = None
            if protocol.augment is not None:
                seed = derived_seed(0, "augment", step)
                augment = augmentation.draw(protocol.augment, lengths.tolist(), states[0].shape[-1], seed)
            logits = learner(states, lengths, augment)
            loss = learner.loss(logits, lengths, [targets[i] for i in ordered]) / len(batches)
            loss.backward()
            whole += float(loss.detach())
        nn.utils.clip_grad_norm_(learner.parameters(), protocol.clip)
        optimizer.step()
        losses.append(whole)
    return losses


@torch.no_grad()
def encode(loaded: LoadedUpstream, waves: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """States x_BTD of every layer, padded with zeros, and lengths_B, of one call of the encoder."""
    heard = [layers.tensors for layers in loaded.upstream([w.to(loaded.device) for w in waves])]
    states = [nn.utils.rnn.pad_sequence(list(of_layer), batch_first=True) for of_layer in zip(*heard, strict=True)]
    return states, torch.tensor([len(tensors[0]) for tensors in heard])


def _copied(linear: nn.Module) -> nn.Linear:
    assert isinstance(linear, nn.Linear), "the heads of SUPERB begin and end with a linear layer"
    copy = nn.Linear(linear.in_features, linear.out_features, device=linear.weight.device)
    copy.load_state_dict(linear.state_dict())
    return copy
