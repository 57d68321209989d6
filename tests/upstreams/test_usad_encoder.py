"""The encoder of USAD students is what its docstring says, exact in any batch, and learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from superbench.errors import DataError, UsageError
from superbench_upstreams import relative_attention, usad_encoder
from superbench_upstreams.encoder import EncoderConfig
from superbench_upstreams.usad_encoder import UsadConfig, UsadEncoder, count_frames, mel_features

TINY = {"width": 16, "layers": 3, "heads": 2, "ffn_expansion": 2, "channels": 4, "position_groups": 4}


def _noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def _encoder(**changes: Any) -> UsadEncoder:
    """A tiny random encoder whose every parameter matters."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = UsadEncoder(UsadConfig(**{**TINY, **changes}))
        with torch.no_grad():
            for layer in encoder.layers:
                layer.attention.content_bias.normal_()
                layer.attention.position_bias.normal_()
    return encoder.eval()


# -- mel features and frames -------------------------------------------------------------------------------------------


def test_frames_are_mel_frames_by_two() -> None:
    lengths = [0, 399, 400, 559, 560, 719, 720, 879, 880, 16000, 480000, 480240, 480400, 480560]
    assert [count_frames(n) for n in lengths] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 49, 1499, 1500, 1500, 1501]
    for samples in (560, 720, 879, 880, 16000):
        assert mel_features(_noise(samples)).shape == (2 * count_frames(samples), 128)


def test_mel_features_are_scaled_as_published() -> None:
    silence = (math.log(2**-23) + 4.268) / (2 * 4.569)  # the floor of Kaldi's energies is float32's epsilon
    assert torch.allclose(mel_features(torch.zeros(1000)), torch.full((4, 128), silence), rtol=0, atol=1e-6)
    quiet, loud = mel_features(_noise(16000)), mel_features(2 * _noise(16000))
    heard = ~torch.isclose(quiet, torch.tensor(silence)).all(0)  # some low bands fall between two frequencies
    assert int(heard.sum()) > 120
    louder = math.log(4) / (2 * 4.569)  # energies
    assert torch.allclose((loud - quiet)[:, heard], torch.tensor(louder), rtol=0, atol=1e-4)
    assert torch.allclose(mel_features(_noise(16000) + 0.5), quiet, rtol=0, atol=1e-3)
    assert mel_features(_noise(16000).double()).dtype == torch.float32


def test_a_tone_is_loudest_in_the_band_of_kaldis_mel_scale() -> None:
    def mel(hertz: float) -> float:
        return 1127 * math.log(1 + hertz / 700)

    centres = [mel(20) + (i + 1) * (mel(8000) - mel(20)) / 129 for i in range(128)]
    for hertz in (1000, 3000, 6000):
        tone = 0.5 * torch.sin(2 * torch.pi * hertz * torch.arange(16000) / 16000)
        nearest = min(range(128), key=lambda i: abs(centres[i] - mel(hertz)))
        assert mel_features(tone).mean(0).argmax().item() == nearest


@pytest.mark.parametrize("samples", [0, 399, 559])
def test_too_short_a_sound_is_refused(samples: int) -> None:
    with pytest.raises(DataError, match=f"{samples} samples is too short") as caught:
        _encoder()([_noise(16000), _noise(samples)])
    assert "560 samples" in caught.value.hint


def test_a_wave_of_two_channels_is_refused() -> None:
    with pytest.raises(DataError, match=r"one channel \[n\], not \[2, 8000\]"):
        _encoder()([torch.zeros(2, 8000)])


# -- the encoder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "parameters"),
    [(UsadConfig.small(), 23.9e6), (UsadConfig.base(), 93.7e6), (UsadConfig.large(), 329.7e6)],
    ids=("small", "base", "large"),
)
def test_the_published_sizes_have_about_the_published_parameters(config: UsadConfig, parameters: float) -> None:
    with torch.device("meta"):
        encoder = UsadEncoder(config)
    count = sum(p.numel() for p in encoder.parameters()) - sum(p.numel() for p in encoder.positions.parameters())
    assert abs(count / parameters - 1) < 1e-3
    assert [block.taps for block in encoder.positions.blocks] == [19] * 5


def test_scores_are_aligned_by_distance() -> None:
    for frames in (1, 2, 5):
        scores = torch.arange(2 * frames * 2 * frames).view(2, frames, 2 * frames)  # column c: T - 1 - c frames back
        aligned = relative_attention.aligned(scores)
        assert aligned.shape == (2, frames, frames)
        for query in range(frames):
            for key in range(frames):
                assert torch.equal(aligned[:, query, key], scores[:, query, frames - 1 - (query - key)])


def test_sinusoids_by_hand() -> None:
    found = relative_attention.sinusoids(2, 4)
    rows = [[math.sin(b), math.sin(b / 100), math.cos(b), math.cos(b / 100)] for b in (1, 0, -1, -2)]
    assert torch.allclose(found, torch.tensor(rows, dtype=torch.float64), rtol=0, atol=1e-15)


def test_relative_attention_is_its_formula() -> None:
    torch.manual_seed(0)
    width, heads, frames = 8, 2, 5
    config = EncoderConfig(width=width, layers=1, heads=heads, ffn_width=8)
    attention = relative_attention.RelativeAttention(config).double().eval()
    torch.nn.init.normal_(attention.content_bias)
    torch.nn.init.normal_(attention.position_bias)
    x = torch.randn(1, frames, width, dtype=torch.float64)
    seen = torch.tensor([True, True, True, True, False])
    distances = relative_attention.sinusoids(frames, width)
    expected = torch.zeros(frames, width, dtype=torch.float64)
    query, key, value = (part(x[0]) for part in (attention.query, attention.key, attention.value))
    for h in range(heads):
        part = slice(h * width // heads, (h + 1) * width // heads)
        scores = torch.full((frames, frames), -math.inf, dtype=torch.float64)
        for i in range(frames):
            for j in range(frames):
                place = attention.position(distances[frames - 1 - (i - j)])[part]
                content = (query[i, part] + attention.content_bias[part]) @ key[j, part]
                position = (query[i, part] + attention.position_bias[part]) @ place
                if seen[j]:
                    scores[i, j] = (content + position) / math.sqrt(width // heads)
        expected[:, part] = scores.softmax(-1) @ value[:, part]
    found = attention(x, seen[None, None, None], distances)
    torch.testing.assert_close(found[0], attention.output(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm_first", [True, False])
def test_the_layers_are_what_they_are_said_to_be(norm_first: bool) -> None:
    encoder = _encoder(norm_first=norm_first).double()
    with torch.no_grad():
        encoded = encoder([_noise(16000)], taps=("states", "ffn"))
        distances = relative_attention.sinusoids(49, 16)
        assert encoded.lengths == (49,)
        assert len(encoded.hidden) == 4
        assert len(encoded.ffn) == 3
        assert {x.shape for x in (*encoded.hidden, *encoded.ffn)} == {(1, 49, 16)}
        for layer, before, ffn, after in zip(
            encoder.layers, encoded.states, encoded.ffn, encoded.states[1:], strict=False
        ):
            if norm_first:
                attended = before + layer.attention(layer.attention_norm(before), None, distances)
                torch.testing.assert_close(attended + ffn, after, rtol=0, atol=1e-12)
            else:
                attended = layer.attention_norm(before + layer.attention(before, None, distances))
                torch.testing.assert_close(layer.ffn_norm(attended + ffn), after, rtol=0, atol=1e-12)
        top = encoder.norm(encoded.states[-1]) if norm_first else encoded.states[-1]
        assert torch.equal(encoded.hidden[-1], top)
        if not norm_first:  # the transformer's input is normalised
            torch.testing.assert_close(encoded.hidden[0].mean(-1), torch.zeros(1, 49).double(), rtol=0, atol=1e-12)
        untapped = encoder([_noise(16000)], taps=("ffn",))
    assert untapped.states == ()
    assert torch.equal(untapped.last, encoded.last)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_a_batch_gives_what_each_wave_gives_alone(
    norm_first: bool, frozen: bool, dtype: torch.dtype, tolerance: float
) -> None:
    encoder = _encoder(norm_first=norm_first).to(dtype).requires_grad_(not frozen)
    waves = [_noise(4000, 1), _noise(16000, 2) + 0.2, _noise(560, 3), _noise(8123, 4)]  # 2 to 28 times as long
    with torch.no_grad():
        together = encoder(waves, taps=("states", "ffn"))
        for i, wave in enumerate(waves):
            alone = encoder([wave], taps=("states", "ffn"))
            assert alone.lengths == (together.lengths[i],) == (count_frames(len(wave)),)
            for one, all_ in zip((*alone.hidden, *alone.ffn), (*together.hidden, *together.ffn), strict=True):
                assert float((one[0] - all_[i, : alone.lengths[0]]).abs().max()) < tolerance
        padded = encoder([F.pad(waves[0], (0, 12000))]).last[0, :11]  # what padding would have done
    assert float((padded - together.last[0, :11]).abs().max()) > 0.01


def test_equal_lengths_need_no_mask() -> None:
    encoder = _encoder().double()
    masks: list[object] = []
    for layer in encoder.layers:
        layer.register_forward_pre_hook(lambda _, inputs: masks.append(inputs[1]))
    with torch.no_grad():
        together = encoder([_noise(8000, 1), _noise(8000, 2)]).last
        assert masks == [None] * 3
        assert float((encoder([_noise(8000, 2)]).last[0] - together[1]).abs().max()) < 1e-12


def test_more_than_thirty_seconds_are_heard_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    assert usad_encoder.PIECE == 3000
    encoder = _encoder().double()
    long, short = mel_features(_noise(16000, 1)), mel_features(_noise(5000, 2))  # 98 and 28 mel frames
    monkeypatch.setattr(usad_encoder, "mel_features", lambda mel: mel)
    monkeypatch.setattr(usad_encoder, "PIECE", 40)
    with torch.no_grad():
        together = encoder([short, long], taps=("states", "ffn"))
        pieces = [encoder([long[a:b]], taps=("states", "ffn")) for a, b in ((0, 40), (40, 80), (80, 98))]
        alone = encoder([short], taps=("states", "ffn"))
    assert together.lengths == (14, 49)
    for i, found in enumerate((*together.hidden, *together.ffn)):
        of_pieces = [(*piece.hidden, *piece.ffn)[i][0] for piece in pieces]
        assert [len(x) for x in of_pieces] == [20, 20, 9]
        torch.testing.assert_close(found[1], torch.cat(of_pieces), rtol=0, atol=1e-12)
        torch.testing.assert_close(found[0, :14], (*alone.hidden, *alone.ffn)[i][0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"width": 0}, "width is 0"),
        ({"heads": 3}, "width 16 is no multiple of heads"),
        ({"position_groups": 5}, "width 16 is no multiple of position_groups"),
        ({"width": 15, "heads": 3, "position_groups": 5}, "width 15 is no multiple of 2"),
        ({"position_depth": 1}, "position_depth is 1, less than 2"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"layerdrop": -0.1}, "layerdrop is -0.1"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(changes: dict[str, Any], wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong):
        UsadConfig(**{**TINY, **changes})


# -- training ----------------------------------------------------------------------------------------------------------


def test_every_parameter_is_trained() -> None:
    encoder = _encoder().train()
    encoded = encoder([_noise(8000, 1), _noise(5000, 2)], taps=("states", "ffn"))
    (encoded.last[0].square().sum() + encoded.last[1, : encoded.lengths[1], ::2].sum()).backward()
    still = [n for n, p in encoder.named_parameters() if p.grad is None or not float(p.grad.abs().max()) > 1e-5]
    # the same vector added to all keys moves every score of a query alike, which softmax does not see
    assert still == [f"layers.{i}.attention.key.bias" for i in range(3)]
    assert all(bool(torch.isfinite(p.grad).all()) for p in encoder.parameters() if p.grad is not None)


def test_a_student_learns() -> None:
    torch.manual_seed(0)
    encoder = _encoder(layers=1).train()
    waves, target = [_noise(4000, 1), _noise(3000, 2)], torch.randn(16)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        encoded = encoder(waves)
        loss = torch.stack(
            [(encoded.last[i, :t] - target).square().mean() for i, t in enumerate(encoded.lengths)]
        ).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_dropout_and_layerdrop_work_in_training_alone() -> None:
    encoder = _encoder(layerdrop=0.999)
    with torch.no_grad():
        assert torch.equal(encoder([_noise(8000)]).last, encoder([_noise(8000)]).last)
        encoder.train()
        dropped = encoder([_noise(8000)], taps=("states", "ffn"))
        assert all(torch.equal(state, dropped.states[0]) for state in dropped.states)
        assert len(dropped.ffn) == 3
        assert all(not bool(inner.any()) for inner in dropped.ffn)
        assert not torch.equal(encoder([_noise(8000)]).states[0], dropped.states[0])  # dropout
