"""Our heads and training step against s3prl's own training curves (golden data, float64)."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from superbench.features.weighted_sum import Probe
from superbench.training.batches import MicroBatch
from superbench.training.candidates import Candidates
from superbench.training.objectives import Targets, losses_of
from superbench_downstreams.blstm import BlstmHead
from superbench_downstreams.linear import LinearHead

DIRECTION = {"": "forwards", "_reverse": "backwards"}


def _our_name(name: str) -> str:
    """s3prl's parameter names, as ours."""
    if name == "featurizer.weights":
        return name
    if name.startswith("model.rnns."):
        _, _, layer, _, parameter = name.split(".")
        suffix = "_reverse" if parameter.endswith("_reverse") else ""
        return f"head.{DIRECTION[suffix]}.{layer}.{parameter.removesuffix('_reverse')}"
    return "head." + name.replace("model.post_net.linear", "linear").replace("model.linear", "linear")


class Golden:
    def __init__(self, folder, kind):
        self.facts = json.loads((folder / f"{kind}.json").read_text())
        self.data = np.load(folder / f"{kind}.npz")
        ends = np.cumsum(self.data["lengths"])
        features = torch.from_numpy(self.data["features"]).double()
        self.features = [features[e - n : e] for e, n in zip(ends, self.data["lengths"], strict=True)]  # [T, L, D]
        target_ends = np.cumsum(self.data["target_lengths"])
        self.targets = [
            tuple(self.data["targets"][e - n : e].tolist())
            for e, n in zip(target_ends, self.data["target_lengths"], strict=True)
        ]
        self.kind = kind

    def state(self, when):
        return {
            _our_name(k.removeprefix(f"{when}/")): torch.from_numpy(self.data[k]).double()
            for k in self.data.files
            if k.startswith(f"{when}/")
        }

    def batch(self, indices):
        items = [self.features[i] for i in indices]
        if self.kind == "pooled":
            return torch.stack([x.mean(dim=0) for x in items]), None, [(int(self.data["labels"][i]),) for i in indices]
        lengths = torch.tensor([len(x) for x in items])
        padded = pad_sequence(items, batch_first=True).transpose(1, 2)  # [B, L, T, D]
        return padded, lengths, [self.targets[i] for i in indices]

    def micro_batch(self, indices, *, weight):
        """Whose mean loss counts `weight` in the loss of its step."""
        x, lengths, targets = self.batch(indices)
        shares = torch.full((len(indices),), weight / len(indices), dtype=torch.float64)
        return MicroBatch(x=x, lengths=lengths, targets=Targets.of(targets), shares=shares)

    def model(self):
        state = self.state("init")
        projector, width = state["head.projector.weight"].shape
        classes = state["head.linear.weight"].shape[0]
        if self.kind == "blstm":
            hidden = state["head.forwards.0.weight_hh_l0"].shape[1]
            head = BlstmHead(width, classes, projector=projector, hidden=hidden, layers=2, dropout=0.0)
        else:
            head = LinearHead(width, classes, projector=projector)
        model = Probe(self.facts["layers"], head).double()
        model.load_state_dict(state)
        return model


@torch.no_grad()
def mean_loss(model, micro, objective):
    """The loss of a micro-batch as s3prl logs it: before the update, before it is weighted."""
    logits = model(micro.x, micro.lengths)
    return float(losses_of(objective, 0, logits[None], micro.lengths, micro.targets).mean())


@pytest.mark.parametrize("beside", [(), (0.3, 1e-5)], ids=["alone", "beside other learning rates"])
@pytest.mark.parametrize("kind", ["pooled", "frame", "blstm"])
def test_training_reproduces_s3prl(shared, kind, beside):
    golden = Golden(shared / "golden" / "heads_s3prl", kind)
    facts, model = golden.facts, golden.model()
    others = [golden.model() for _ in beside]
    candidates = Candidates([*others, model], [*beside, facts["lr"]], precision="float64")
    objective = "cross_entropy" if kind == "pooled" else "ctc"
    batches, losses, of_steps, norms = golden.data["batches"], [], [], []
    assert len(batches) == facts["steps"] * facts["accumulate"]
    for step in range(facts["steps"]):
        mine = batches[step * facts["accumulate"] : (step + 1) * facts["accumulate"]]
        micro = [golden.micro_batch(b.tolist(), weight=1 / facts["accumulate"]) for b in mine]
        losses += [mean_loss(model, m, objective) for m in micro]
        found, norm = candidates.step(micro, objective=objective, blank=0, clip=facts["clip"])
        of_steps.append(found[-1])
        norms.append(norm[-1])
    np.testing.assert_allclose(losses, golden.data["losses"], rtol=0, atol=1e-10)
    expected_of_steps = golden.data["losses"].reshape(facts["steps"], facts["accumulate"]).mean(axis=1)
    np.testing.assert_allclose(of_steps, expected_of_steps, rtol=0, atol=1e-10)
    np.testing.assert_allclose(norms, golden.data["grad_norms"], rtol=0, atol=1e-10)
    final = model.state_dict()
    assert set(final) == set(golden.state("final"))
    for name, expected in golden.state("final").items():
        torch.testing.assert_close(final[name], expected, rtol=0, atol=1e-10, msg=name)
    for other in others:
        assert not torch.allclose(other.featurizer.weights, model.featurizer.weights, rtol=0, atol=1e-4)
    x, lengths, _ = golden.batch(range(5))
    candidates.train(False)
    with torch.no_grad():
        *_, side_by_side = candidates.logits(0, x, lengths)
        logits = model.eval()(x, lengths)
    expected = golden.data["final_logits_first5"]
    for row in range(5):
        valid = slice(None) if lengths is None else slice(0, int(lengths[row]))
        for ours in (logits.numpy(), side_by_side.numpy()):
            np.testing.assert_allclose(ours[row][valid], expected[row][valid], rtol=0, atol=1e-10)
    assert all(math.isfinite(x) for x in losses)
