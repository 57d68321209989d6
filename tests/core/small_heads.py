"""Small heads on features in memory, and their training step written out plainly, an utterance at a time.

Shapes: C candidates, L layers, T frames, D features, K classes, H hidden; class 0 is CTC's blank.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from superbench.features.weighted_sum import Probe
from superbench.plugin import TaskProtocol
from superbench.sampling import derived_seed
from superbench.training.batches import Order, micro_batches
from superbench.training.candidates import Candidates
from superbench_downstreams.blstm import BlstmHead
from superbench_downstreams.linear import LinearHead

LAYERS, WIDTH, CLASSES, HIDDEN, DROPOUT = 3, 5, 4, 3, 0.2
LENGTHS = (7, 4, 6, 3, 7, 5, 4, 6)
SPOKEN = ((1, 2), (3,), (2, 2), (1, 1, 2), (), (3, 1), (1,), (2, 3, 1))  # the fourth needs 4 frames and has 3
CLASS_OF = tuple((i * 3 % CLASSES,) for i in range(len(LENGTHS)))
POOLED = TaskProtocol(
    head="any",
    objective="cross_entropy",
    metrics=("accuracy",),
    steps=7,
    batch=4,
    accumulate=1,
    eval_every=2,
    clip=1.0,
    lr_grid=(0.1,),
)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A head, and how many lanes of it train together."""

    head: str
    lanes: int = 1

    @property
    def pooled(self):
        return self.head == "pooled_linear"

    @property
    def protocol(self):
        return POOLED if self.pooled else replace(POOLED, objective="ctc", metrics=("per",))

    def build(self, seed=None):
        """A probe, drawn anew or, with its weights of the layers, from a seed."""
        if seed is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                probe = self.build().double()
                nn.init.normal_(probe.featurizer.weights)
                return probe
        if self.head == "blstm":
            return Probe(LAYERS, BlstmHead(WIDTH, CLASSES, projector=4, hidden=HIDDEN, layers=2, dropout=DROPOUT))
        return Probe(LAYERS, LinearHead(WIDTH, CLASSES, projector=4))

    def orders(self, batches):
        """The given places at every step: of other utterances at another step and in another lane."""
        return [
            Order(seed=lane, batches=lambda step, lane=lane: [[(i + step + lane) % 8 for i in b] for b in batches])
            for lane in range(self.lanes)
        ]


KINDS = {
    "pooled": Kind(head="pooled_linear"),
    "pooled, 3 lanes": Kind(head="pooled_linear", lanes=3),
    "frames": Kind(head="frame_linear"),
    "blstm": Kind(head="blstm"),
}


class InMemory:
    """Features and targets of eight utterances, float64."""

    reads_ahead = False

    def __init__(self, kind):
        generator = torch.Generator().manual_seed(1)
        frames = [torch.randn(LAYERS, n, WIDTH, generator=generator, dtype=torch.float64) for n in LENGTHS]
        self.features = [x.mean(dim=1) for x in frames] if kind.pooled else frames
        self.pooled = kind.pooled
        self.lengths = (1,) * len(LENGTHS) if kind.pooled else LENGTHS
        self.targets = CLASS_OF if kind.pooled else SPOKEN

    def batch(self, indices):
        if self.pooled:
            return torch.stack([self.features[i] for i in indices]), None
        x_BTLD = pad_sequence([self.features[i].transpose(0, 1) for i in indices], batch_first=True)
        return x_BTLD.transpose(1, 2), torch.tensor([LENGTHS[i] for i in indices])

    def expect(self, coming):
        return 0


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """What one step told of a candidate, and left behind."""

    loss: float
    norm: float  # of the gradient, before it is clipped
    gradients: dict[str, torch.Tensor]  # clipped
    weights: dict[str, torch.Tensor]

    @classmethod
    def of(cls, model, loss, norm):
        named = list(model.named_parameters())
        return cls(
            loss=loss,
            norm=norm,
            gradients={n: None if p.grad is None else p.grad.clone() for n, p in named},
            weights={n: p.detach().clone() for n, p in named},
        )


def train(kind, models, lrs, orders, *, steps, size, clip=1.0, protocol=None, first=0, candidates=None):
    """Train candidates for some steps, in micro-batches of `size`: the candidates, and for each what its steps were."""
    protocol, examples = protocol or kind.protocol, InMemory(kind)
    candidates = candidates or Candidates(models, lrs, lanes=len(orders), precision="float64")
    candidates.train()
    found = [[] for _ in models]
    for step in range(first, first + steps):
        micro = micro_batches(orders, examples, step, protocol=protocol, size=size)
        losses, norms = candidates.step(micro, objective=protocol.objective, blank=0, clip=clip)
        for one, told in zip(found, zip(models, losses, norms, strict=True), strict=True):
            one.append(Stepped.of(*told))
    return candidates, found


def train_plainly(kind, model, lr, order, *, steps, clip):
    """The same for one candidate, by torch's criterion, clip_grad_norm_ and Adam: each batch's mean counts alike."""
    examples = InMemory(kind)
    weights = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}
    optimizer = torch.optim.Adam(weights.values(), lr=lr)
    found = []
    for step in range(steps):
        optimizer.zero_grad()
        batches = order.batches(step)
        drawn = [i for batch in batches for i in batch]
        places = sorted(range(len(drawn)), key=lambda at: examples.lengths[drawn[at]])  # the shortest first
        told, at = 0.0, 0
        for batch in batches:
            masks = [Masks(order.seed, step, places.index(at + row)) for row in range(len(batch))]
            logits = [plain_logits(kind, weights, examples.features[i], m) for i, m in zip(batch, masks, strict=True)]
            loss = plain_loss(kind, logits, [examples.targets[i] for i in batch]) / len(batches)
            loss.backward()
            told, at = told + loss.item(), at + len(batch)
        norm = nn.utils.clip_grad_norm_(weights.values(), clip)
        optimizer.step()
        found.append(
            Stepped(
                loss=told,
                norm=norm.item(),
                gradients={n: p.grad.clone() for n, p in weights.items()},
                weights={n: p.detach().clone() for n, p in weights.items()},
            )
        )
    return found


def plain_loss(kind, logits, targets):
    if kind.pooled:
        return F.cross_entropy(torch.stack(logits), torch.tensor([t for (t,) in targets]))
    criterion = nn.CTCLoss(blank=0, zero_infinity=True)
    flat = torch.tensor([t for target in targets for t in target])
    sizes = torch.tensor([len(target) for target in targets])
    said = pad_sequence([x.log_softmax(dim=-1) for x in logits])
    return criterion(said, flat, torch.tensor([len(x) for x in logits]), sizes)


def plain_logits(kind, weights, x, masks=None):
    """[K] of one utterance [L, D], or [T, K] of [L, T, D]; with the masks of training, or none."""

    def linear(x, name):
        return F.linear(x, weights[f"head.{name}.weight"], weights[f"head.{name}.bias"])

    x = torch.einsum("l,l...->...", weights["featurizer.weights"].softmax(dim=0), x)
    x = linear(x, "projector")
    if kind.head == "blstm":
        for layer in range(2):
            ahead_TH = _lstm(x, weights, f"head.forwards.{layer}")
            back_TH = _lstm(x.flip(0), weights, f"head.backwards.{layer}").flip(0)
            x = torch.cat((ahead_TH, back_TH), dim=1)
            x = x if masks is None else x * masks(layer, x) / (1 - DROPOUT)
    return linear(x, "linear")


@dataclass(frozen=True)
class Masks:
    """Of an utterance that stands at a place of the effective batch of a step."""

    seed: int
    step: int
    place: int

    def __call__(self, layer, x):
        seed = derived_seed(self.seed, "dropout", self.step, self.place, layer)
        return torch.empty_like(x).bernoulli_(1 - DROPOUT, generator=torch.Generator().manual_seed(seed))


def _lstm(x_TD, weights, name):
    """Source of the gates and their order: torch.nn.LSTM's documentation."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    w_input, w_hidden, b_input, b_hidden = (weights[f"{name}.{kind}_l0"] for kind in names)
    inputs_T4H = F.linear(x_TD, w_input, b_input + b_hidden)
    hidden = cell = torch.zeros(HIDDEN, dtype=x_TD.dtype)
    found = []
    for inputs in inputs_T4H:
        into, forget, candidate, out = (inputs + F.linear(hidden, w_hidden)).chunk(4)
        cell = forget.sigmoid() * cell + into.sigmoid() * candidate.tanh()
        hidden = out.sigmoid() * cell.tanh()
        found.append(hidden)
    return torch.stack(found)


def assert_same_steps(found, expected, atol=1e-12):
    """Losses, norms, gradients and weights after every step agree."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        pairs = [(torch.tensor([s.loss, s.norm], dtype=torch.float64) for s in (one, other))]
        for ours, theirs in ((one.gradients, other.gradients), (one.weights, other.weights)):
            assert list(ours) == list(theirs)
            pairs += [(ours[name], theirs[name]) for name in ours]
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)
