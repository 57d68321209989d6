"""Checkpoints that would run code, through the command line: refused, and nothing of them is executed."""

from __future__ import annotations

import json
import os
import pickle

import pytest

RUN = "run -q -u huggingface:normalize=false,checkpoint={at}/checkpoint -t ks --data {at}/m.csv --steps 2 --lr 1e-2"


class Evil:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


# name: what stands in the folder; the words the message must hold
FOLDERS = {
    "pickle that runs code": (
        lambda canary: {"config.json": {"model_type": "hubert"}, "pytorch_model.bin": Evil(canary)},
        ("a pickle that holds more than tensors", "model.safetensors"),
    ),
    "no configuration": (lambda canary: {"pytorch_model.bin": Evil(canary)}, ("config.json",)),
    "configuration of no speech encoder": (lambda canary: {"config.json": {"model_type": "gpt2"}}, ("gpt2",)),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_checkpoint_is_refused(case, bench, refused):
    content, words = FOLDERS[case]
    canary = bench.path("canary")
    bench.path("checkpoint").mkdir()
    for name, value in content(canary).items():
        text = json.dumps(value).encode() if name.endswith(".json") else pickle.dumps(value)
        bench.write(f"checkpoint/{name}", text)
    refused(RUN, 4, ("huggingface", *words))
    assert not canary.exists()
