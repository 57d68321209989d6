"""Short fits of small heads, float64, that can be killed at any evaluation; and what they said, warned and left."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from small_heads import InMemory

from superbench.progress import Bar
from superbench.training.fitting import Lane, Trial, fit

DEV = (5, 6)
BATCHES = [[0, 1, 2, 3], [4, 5, 6, 7]]  # all eight utterances at every step


class KilledError(Exception):
    pass


class Told(Bar):
    """A bar that remembers."""

    def __init__(self):
        self.warnings, self.units = [], 0

    def warn(self, text):
        self.warnings.append(text)

    def advance(self, units=1, note=""):
        self.units += units


@dataclass(kw_only=True)
class Fit:
    """One fit after the other in a folder, each as another process would do it."""

    kind: object
    folder: object
    lrs: tuple[float, ...] = (0.1, 0.02)
    lanes: int | None = None
    micro_batch: int = 3
    protocol: dict = field(default_factory=dict)  # changes to it
    build: object = None
    examples: object = None
    said: list = field(default_factory=list)  # by evaluation, lane and learning rate

    def __post_init__(self):
        self.folder.mkdir(exist_ok=True)

    @property
    def steps(self):
        return self.trial.protocol.steps

    @property
    def trial(self):
        facts = {"accumulate": 2, "lr_grid": self.lrs, "eval_every": 3, **self.protocol}
        return Trial(
            protocol=replace(self.kind.protocol, **facts),
            blank=0,
            direction="min",
            device="cpu",
            threads=1,
            micro_batch=self.micro_batch,
            precision="float64",
        )

    def run(self, kill_after=None, meanwhile=None):
        """What came of it, and the bar; `kill_after` so many evaluations of a candidate the process dies."""
        examples = self.examples or InMemory(self.kind)
        bar = Told()
        self.said.clear()

        def evaluate(found):
            if len(self.said) == kill_after:
                raise KilledError
            self.said.append(found)
            if meanwhile is not None:
                meanwhile(len(self.said))
            return float(sum(_errors(found[i], examples.targets[i]) for i in DEV))

        orders = replace(self.kind, lanes=self.lanes or self.kind.lanes).orders(BATCHES)
        lanes = [Lane(name=f"seed{order.seed}", order=order, dev=DEV, evaluate=evaluate) for order in orders]
        found = fit(self.build or self.kind.build, examples, self.trial, lanes, folder=self.folder, bar=bar)
        return found, bar

    def bytes(self):
        """Of every checkpoint, by name."""
        return {path.name: path.read_bytes() for path in sorted(self.folder.glob("*.checkpoint"))}


def _errors(said, target):
    return sum(a != b for a, b in zip(said, target, strict=False)) + abs(len(said) - len(target))


def facts(found):
    """Of every candidate: how it got there, and the bits of its weights."""
    return {
        name: (fitted, {n: p.numpy().tobytes() for n, p in model.state_dict().items()})
        for name, (fitted, model) in found.items()
    }
