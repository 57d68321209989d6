"""An upstream that computes in float32 and float64 and writes down what it hears, and what a run of it leaves."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

# As `counting` of conftest.py. A wave's features are the same in every batch, but for `last_bits`: with it they say in
# their last bits how long the batch was.
UPSTREAM = """
    import hashlib, os
    from dataclasses import dataclass
    from superbench.plugin import Layers, UpstreamSpec, hookimpl

    @dataclass(frozen=True)
    class Options:
        last_bits: bool = False

    def load(options, device):
        import torch

        class Heard:
            sample_rate, strides, widths = 16000, (160, 160), (4, 4)
            exact_batches, batch_samples = True, 20000

            def num_frames(self, samples):
                return samples // 160

            def astype(self, dtype):
                return self

            def __call__(self, waves):
                found = []
                for wave in waves:
                    with open(os.environ["CALLS"], "a") as calls:
                        calls.write(f"{len(wave)} {hashlib.sha256(wave.numpy().tobytes()).hexdigest()}\\n")
                    x = wave[: len(wave) // 160 * 160].view(-1, 160)
                    x = torch.stack((x.abs().mean(1), x.std(1), x.diff().abs().mean(1), x.amax(1)), 1) * 10
                    if options.last_bits:
                        x = x * (1 + 2**-20 * (sum(len(w) for w in waves) % 61) / 61)
                    found.append(Layers((x, x * x)))
                return found

        return Heard()

    @hookimpl
    def superbench_upstreams():
        yield UpstreamSpec(name="heard", load=load, options=Options)
"""
ONLY_FLOAT32 = UPSTREAM.replace("def astype(self, dtype)", "def as_type(self, dtype)")


def said(result: dict) -> dict[str, bytes]:
    """The predictions of one result, by file, as they are written."""
    files = {p.name: p.read_bytes() for p in Path(result["folder"]).glob("predictions*.jsonl")}
    assert set(files) == {"predictions.jsonl", "predictions.dev.jsonl"}
    return files


def head(result: dict) -> dict[str, torch.Tensor]:
    """The trained head of one result."""
    return load_file(Path(result["folder"]) / "head.safetensors")


def features(result: dict) -> tuple:
    """Where they were; and how many segments were computed before, reused, and computed as they were wanted."""
    facts = result["features"]
    return facts["where"], facts["computed"], facts["reused"], facts["streamed"]
