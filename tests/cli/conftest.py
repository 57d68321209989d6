"""Upstreams of strangers, and what a run leaves on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

# Four numbers per frame of 10 ms, and their squares as a second layer. Each call writes a line per wave to $CALLS.
COUNTING = """
    import hashlib, os, time
    from superbench.plugin import Layers, UpstreamSpec, hookimpl

    def load(options, device):
        import torch

        class Counting:
            sample_rate, strides, widths = 16000, (160, 160), (4, 4)

            def num_frames(self, samples):
                return samples // 160

            def __call__(self, waves):
                found = []
                for wave in waves:
                    with open(os.environ["CALLS"], "a") as calls:
                        calls.write(f"{len(wave)} {hashlib.sha256(wave.numpy().tobytes()).hexdigest()}\\n")
                    time.sleep(float(os.environ.get("SECONDS_PER_WAVE", "0")))
                    x = wave[: len(wave) // 160 * 160].view(-1, 160)
                    facts = (x.abs().mean(1), x.std(1), x.diff().abs().mean(1), x.amax(1))
                    x = torch.stack(facts, 1) * 10
                    found.append(Layers((x, x * x)))
                return found

        return Counting()

    @hookimpl
    def superbench_upstreams():
        yield UpstreamSpec(name="counting", load=load)
"""
PROBES = (16000, 11213)  # samples of the two waves every upstream is tried on


@pytest.fixture
def counting(plugin: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plugin whose upstream `counting` keeps a list of its calls (see `calls`)."""
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return plugin(COUNTING, "counting.py")


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], list[str]]:
    """Take the list of sounds that `counting` was run on since the last time, but for the probe waves."""

    def take() -> list[str]:
        path = tmp_path / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.write_text("")
        return [line.split()[1] for line in lines if int(line.split()[0]) not in PROBES]

    return take


@pytest.fixture
def outcome() -> Callable[[Path], dict[str, bytes]]:
    """What must be the same to the byte: predictions and heads of all finished runs below a home, by their path."""

    def read(home: Path) -> dict[str, bytes]:
        wanted = ("predictions.jsonl", "predictions.dev.jsonl", "head.safetensors")
        found = {str(p.relative_to(home)): p.read_bytes() for p in sorted(home.rglob("*")) if p.name in wanted}
        assert found, f"no finished run in {home}"
        return found

    return read
