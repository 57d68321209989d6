"""Our heads and training step against s3prl's own training curves (golden data, float64)."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from superbench.features.weighted_sum import Probe
from superbench.training import MicroBatch, train_step
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
        x, lengths, targets = self.batch(indices)
        return MicroBatch(x=x, lengths=lengths, targets=targets, weight=weight)

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


@pytest.mark.parametrize("kind", ["pooled", "frame", "blstm"])
def test_training_reproduces_s3prl(shared, kind):
    golden = Golden(shared / "golden" / "heads_s3prl", kind)
    facts, model = golden.facts, golden.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=facts["lr"])
    objective = "cross_entropy" if kind == "pooled" else "ctc"
    batches, losses, norms = golden.data["batches"], [], []
    assert len(batches) == facts["steps"] * facts["accumulate"]
    for step in range(facts["steps"]):
        mine = batches[step * facts["accumulate"] : (step + 1) * facts["accumulate"]]
        micro = [golden.micro_batch(b.tolist(), weight=1 / facts["accumulate"]) for b in mine]
        found, norm = train_step(model, optimizer, micro, objective=objective, blank=0, clip=facts["clip"])
        losses += found
        norms.append(norm)
    np.testing.assert_allclose(losses, golden.data["losses"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(norms, golden.data["grad_norms"], rtol=0, atol=1e-10)
    final = model.state_dict()
    for name, expected in golden.state("final").items():
        torch.testing.assert_close(final[name], expected, rtol=0, atol=1e-10, msg=name)
    x, lengths, _ = golden.batch(range(5))
    logits = model.eval()(x, lengths).detach().numpy()
    expected = golden.data["final_logits_first5"]
    for row in range(5):
        valid = slice(None) if lengths is None else slice(0, int(lengths[row]))
        np.testing.assert_allclose(logits[row][valid], expected[row][valid], rtol=0, atol=1e-10)
    assert all(math.isfinite(x) for x in losses)
