"""The baseline features are s3prl's, frame for frame, and CMVN does what its formula says."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from superbench.errors import DataError
from superbench.plugin import NoOptions
from superbench_upstreams import baseline, superbench_upstreams

SPECS = {spec.name: spec for spec in baseline.SPECS}
WIDTHS = {"fbank": 240, "fbank_no_cmvn": 240, "mfcc": 39}


def _load(name: str) -> baseline.Baseline:
    upstream = SPECS[name].load(SPECS[name].options(), "cpu")
    assert isinstance(upstream, baseline.Baseline)
    return upstream


def _noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def test_the_hook_brings_every_upstream_and_loads_nothing_heavy() -> None:
    specs = {spec.name: spec for spec in superbench_upstreams()}
    assert set(specs) >= {"fbank", "fbank_no_cmvn", "mfcc", "huggingface"}
    assert all(spec.summary and (spec.distributions or spec.sources) for spec in specs.values())
    program = (
        "import sys; from superbench_upstreams import superbench_upstreams; list(superbench_upstreams())\n"
        "heavy = {'torch', 'torchaudio', 'pandas', 'sklearn', 'transformers', 'sqlalchemy', 'pydantic', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", WIDTHS)
def test_it_states_what_comes_out(name: str) -> None:
    upstream = _load(name)
    assert (upstream.sample_rate, tuple(upstream.strides), tuple(upstream.widths)) == (16000, (160,), (WIDTHS[name],))
    for samples in (560, 561, 719, 720, 721, 4321, 16000):
        (layers,) = upstream([_noise(samples)])
        assert [tuple(t.shape) for t in layers.tensors] == [(upstream.num_frames(samples), WIDTHS[name])]
    one = 1 if name == "fbank_no_cmvn" else 0  # frame: it has no variance
    assert [upstream.num_frames(n) for n in (0, 239, 399, 400, 559, 560, 16000)] == [0, 0, 0, one, one, 2, 98]


@pytest.mark.parametrize("name", ["fbank", "mfcc"])
@pytest.mark.parametrize("wave", [_noise(16000), _noise(560), torch.zeros(8000), torch.full((8000,), 0.3)])
def test_cmvn_makes_the_time_mean_zero_whatever_the_sound(name: str, wave: torch.Tensor) -> None:
    (layers,) = _load(name)([wave])
    assert torch.isfinite(layers.tensors[0]).all()
    assert layers.tensors[0].mean(0).abs().max() < 1e-5


def test_cmvn_and_deltas_follow_their_formulas() -> None:
    x = torch.tensor([[1.0, 7.0], [4.0, 7.0], [2.0, 7.0], [5.0, 7.0]], dtype=torch.float64)
    deviation = math.sqrt((4 + 1 + 1 + 4) / 3)  # of 1 4 2 5 about 3
    expected = torch.tensor([[-2.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]]).double() / deviation
    assert torch.allclose(baseline.cmvn(x), expected, atol=1e-9)
    y = baseline.with_deltas(x[:, :1])
    # sum over n = 1, 2 of n * (x[t + n] - x[t - n]) / 10, with the first and last frame repeated at the ends
    first = [
        ((4 - 1) + 2 * (2 - 1)) / 10,
        ((2 - 1) + 2 * (5 - 1)) / 10,
        ((5 - 4) + 2 * (5 - 1)) / 10,
        ((5 - 2) + 2 * (5 - 4)) / 10,
    ]
    padded = [first[0], first[0], *first, first[3], first[3]]
    second = [((padded[t + 1] - padded[t - 1]) + 2 * (padded[t + 2] - padded[t - 2])) / 10 for t in range(2, 6)]
    assert torch.allclose(y, torch.tensor([x[:, 0].tolist(), first, second]).double().T, atol=1e-12)


def test_the_filter_bank_of_a_tone_peaks_where_the_mel_scale_puts_it() -> None:
    time = torch.arange(16000, dtype=torch.float64) / 16000
    (layers,) = _load("fbank_no_cmvn").astype(torch.float64)([0.5 * torch.sin(2 * torch.pi * 1000 * time)])
    assert layers.tensors[0].dtype == torch.float64

    def mel(hertz: float) -> float:
        return 1127 * math.log(1 + hertz / 700)

    centres = [mel(20) + (i + 1) * (mel(8000) - mel(20)) / 81 for i in range(80)]
    nearest = min(range(80), key=lambda i: abs(centres[i] - mel(1000)))
    assert layers.tensors[0][:, :80].mean(0).argmax().item() == nearest
    assert layers.tensors[0][3:-3, 80:].abs().max() < 0.05  # a steady tone has no deltas


@pytest.mark.parametrize("name", WIDTHS)
def test_a_batch_changes_nothing_and_the_wave_stays_as_it_is(name: str) -> None:
    waves = [_noise(8000, 1), _noise(3211, 2)]
    before = [wave.clone() for wave in waves]
    upstream = _load(name)
    together = upstream(waves)
    for wave, layers in zip(waves, together, strict=True):
        assert torch.equal(layers.tensors[0], upstream([wave])[0].tensors[0])
    assert all(torch.equal(a, b) for a, b in zip(waves, before, strict=True))


@pytest.mark.parametrize(("name", "samples"), [("fbank", 559), ("mfcc", 400), ("fbank_no_cmvn", 399), ("fbank", 0)])
def test_too_short_a_sound_is_refused(name: str, samples: int) -> None:
    with pytest.raises(DataError, match=f"{samples} samples is too short"):
        _load(name)([_noise(samples)])


@pytest.mark.skipif("SUPERBENCH_SHARED" not in os.environ, reason="SUPERBENCH_SHARED: golden features not at hand")
@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize("wave", ["wav_a", "wav_b"])
def test_s3prl_golden(name: str, wave: str) -> None:
    golden = Path(os.environ["SUPERBENCH_SHARED"]) / "golden"
    samples = torch.from_numpy(np.load(golden / "waves.npz")[wave])
    expected = np.load(golden / "baseline_s3prl" / "golden.npz")[f"{name}_{wave}"]
    (layers,) = SPECS[name].load(NoOptions(), "cpu")([samples])
    found = layers.tensors[0].numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
