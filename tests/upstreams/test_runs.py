"""Every method is benchmarked by its name and checkpoint, and hears each sound once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_methods import MODULES, checkpoint

from superbench_upstreams import usad
from superbench_upstreams.checkpoints import write_checkpoint
from superbench_upstreams.usad_encoder import UsadConfig, UsadEncoder


def reference(method: str, folder: Path) -> str:
    """What to type for a small random checkpoint of a method."""
    if method == "dmel":
        return "dmel"
    if method == "usad":
        with torch.random.fork_rng(devices=[]):
            encoder = UsadEncoder(UsadConfig(width=16, layers=2, heads=2, channels=4, position_groups=4))
        usad.save(encoder, folder, origin={})
    else:
        write_checkpoint(folder, checkpoint(method))
    return f"{method}:checkpoint={folder}"


@pytest.mark.parametrize("method", [*MODULES, "usad", "dmel"])
def test_a_run_and_a_second_one(method, tmp_path, tones, superbench):
    line = ["run", "-u", reference(method, tmp_path / "made"), "--data", tones, "--lr", "1e-3", "--json", "--resample"]
    first = superbench(*line, "-t", "ks", "--steps", 4)
    assert first.code == 0, first.err
    (result,) = first.json
    assert result["upstream"].startswith(method)
    assert (result["features"]["computed"], result["features"]["reused"]) == (24, 0)
    assert result["scores"][0]["denominator"] == 6
    second = superbench(*line, "-t", "ks", "--steps", 5)
    assert (second.json[0]["features"]["computed"], second.json[0]["features"]["reused"]) == (0, 24)
