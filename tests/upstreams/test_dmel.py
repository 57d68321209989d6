"""dMel is the published code's, band for band and level for level, and its levels follow their formulas."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from superbench.errors import DataError, UsageError
from superbench.options import build_options
from superbench_upstreams import dmel
from superbench_upstreams.dmel import DMel, Levels


def _load(**options: object) -> DMel:
    upstream = dmel.SPEC.load(build_options(dmel.Options, options, who="upstream dmel"), "cpu")
    assert isinstance(upstream, DMel)
    return upstream


def _noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("hop", ["25", "12.5"])
@pytest.mark.parametrize("wave", ["wav_a", "wav_b"])
def test_the_published_code_golden(shared: Path, wave: str, hop: str) -> None:
    golden = np.load(shared / "golden" / "dmel" / "golden.npz")
    log_mel = torch.from_numpy(golden[f"{wave}_hop{hop}_logmel"])
    tokens = torch.from_numpy(golden[f"{wave}_hop{hop}_tokens"]).long()
    samples = torch.from_numpy(np.load(shared / "golden" / "waves.npz")[wave])
    for dtype in (torch.float32, torch.float64):
        computing = _load(hop=hop)
        assert computing.astype(dtype) is computing
        features = computing([samples])[0].tensors[0]
        codes, continuous = (computing.tap(name)([samples])[0].tensors[0] for name in ("codes", "continuous"))
        assert torch.equal(codes, tokens)
        assert continuous.shape == log_mel.shape
        assert float((continuous - log_mel).abs().max()) < 5e-6
        torch.testing.assert_close(features, -7 + 0.6 * tokens.to(features.dtype), rtol=0, atol=1e-6)
        assert {features.dtype, continuous.dtype} == {dtype}
        assert codes.dtype == torch.int64


def test_the_levels_of_the_code_by_hand() -> None:
    levels = _load().levels
    assert levels == Levels(low=-7.0, step=0.6, count=16)
    values = torch.tensor([-10.0, -7.0, -6.71, -6.69, -1.0, 1.69, 1.71, 2.0, 9.0], dtype=torch.float64)
    codes = levels.encode(values)
    assert codes.tolist() == [0, 0, 0, 1, 10, 14, 15, 15, 15]
    decoded = levels.decode(codes, torch.float64)
    expected = torch.tensor([-7, -7, -7, -6.4, -1, 1.4, 2, 2, 2], dtype=torch.float64)
    torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-12)
    assert [_load(bits=b).levels.step for b in (1, 2, 3, 8)] == [9.0, 3.0, 1.2857, 0.0353]


def test_the_levels_of_the_paper_by_hand() -> None:
    levels = _load(bits="2", low="-5", high="3").levels
    assert levels == Levels(low=-5.0, step=2.0, count=4)  # -5, -3, -1, 1: none stands at 3
    values = torch.tensor([-9.0, -4.5, -4.0, -3.9, -2.1, 0.1, 2.9])
    assert levels.encode(values).tolist() == [0, 0, 0, 1, 1, 3, 3]  # -4 is as far from -5 as from -3: the lower
    assert _load(low=-5.2, high=1.2).levels == Levels(low=-5.2, step=0.4, count=16)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"hop": 10}, "hop=10 ms"),
        ({"bits": 0}, "bits=0"),
        ({"bits": 9}, "bits=9"),
        ({"low": -5}, "high is missing"),
        ({"high": 1}, "low is missing"),
        ({"low": 1, "high": 1}, "low=1 is not below high=1"),
        ({"low": 2, "high": -7}, "low=2 is not below high=-7"),
        ({"bit": 4}, "no option 'bit'"),
        ({"hop": "fast"}, "hop"),
        ({"low": "nan", "high": 1}, "low"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong):
        _load(**options)


@pytest.mark.parametrize(("hop", "samples"), [("25", 400), ("12.5", 200)])
def test_it_states_what_comes_out(hop: str, samples: int) -> None:
    upstream = _load(hop=hop)
    assert (upstream.sample_rate, tuple(upstream.strides), tuple(upstream.widths)) == (16000, (samples,), (80,))
    assert upstream.exact_batches is True
    for name, integers in (("hidden", False), ("codes", True), ("continuous", False)):
        tapped = upstream.tap(name)
        assert tapped.integers is integers
        assert (tapped.strides, tapped.widths) == (upstream.strides, upstream.widths)
        for n in (513, 599, 600, 799, 800, 1199, 1200, 1201, 16000):
            (layers,) = tapped([_noise(n)])
            assert [tuple(t.shape) for t in layers.tensors] == [(1 + n // samples, 80)]
            assert tapped.num_frames(n) == 1 + n // samples


@pytest.mark.parametrize("samples", [0, 1, 512])
def test_too_short_a_sound_is_refused(samples: int) -> None:
    assert _load().num_frames(samples) == 0
    with pytest.raises(DataError, match=f"{samples} samples is too short"):
        _load()([_noise(samples)])


def test_a_wave_of_two_channels_is_refused() -> None:
    with pytest.raises(DataError, match=r"one channel \[n\], not \[2, 8000\]"):
        _load()([torch.zeros(2, 8000)])


def test_a_tap_it_does_not_have_is_refused() -> None:
    assert torch.equal(
        _load().tap("codes").tap("hidden")([_noise(800)])[0].tensors[0], _load()([_noise(800)])[0].tensors[0]
    )
    with pytest.raises(UsageError, match="no tap 'logits'"):
        _load().tap("logits")


def test_silence_is_the_lowest_level_and_the_floor() -> None:
    (floor,) = _load().tap("continuous")([torch.zeros(8000)])
    assert set(floor.tensors[0].flatten().tolist()) == {-10.0}
    assert set(_load()([torch.zeros(8000)])[0].tensors[0].flatten().tolist()) == {-7.0}


def test_features_are_log_mels_within_half_a_step() -> None:
    wave = _noise(16000)
    features, continuous = (u([wave])[0].tensors[0] for u in (_load(), _load().tap("continuous")))
    assert -7 <= float(continuous.min()) < float(continuous.max()) <= 2
    assert 0.2 < float((features - continuous).abs().max()) <= 0.3 + 1e-6


def test_a_tone_is_loudest_in_the_band_of_slaneys_scale() -> None:
    time = torch.arange(16000, dtype=torch.float64) / 16000
    upstream = _load().astype(torch.float64).tap("continuous")

    def mel(hertz: float) -> float:  # linear below 1 kHz, then 27 steps for a factor of 6.4
        return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)

    centres = [mel(80) + (i + 1) * (mel(7600) - mel(80)) / 81 for i in range(80)]
    for hertz in (300, 700, 2000, 5000):
        (layers,) = upstream([0.5 * torch.sin(2 * torch.pi * hertz * time)])
        nearest = min(range(80), key=lambda i: abs(centres[i] - mel(hertz)))
        assert layers.tensors[0][2:-2].mean(0).argmax().item() == nearest


def test_a_batch_changes_nothing_and_the_wave_stays_as_it_is() -> None:
    waves = [_noise(8000, 1), _noise(3211, 2), _noise(513, 3)]
    before = [wave.clone() for wave in waves]
    for upstream in (_load(), _load().tap("codes"), _load().tap("continuous")):
        for wave, layers in zip(waves, upstream(waves), strict=True):
            assert torch.equal(layers.tensors[0], upstream([wave])[0].tensors[0])
    assert all(torch.equal(a, b) for a, b in zip(waves, before, strict=True))


def test_the_module_loads_nothing_heavy() -> None:
    program = (
        "import sys; from superbench_upstreams import dmel\n"
        "print(sorted({'torch', 'torchaudio', 'numpy', 'transformers', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
