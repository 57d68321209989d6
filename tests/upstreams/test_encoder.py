"""The encoder gives each utterance, in any batch, what it has alone; written plainly, its parts say the same."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from superbench.errors import UsageError
from superbench_upstreams.convolution import STANDARD, ConvolutionalFront, count_frames
from superbench_upstreams.encoder import Encoder, EncoderConfig
from superbench_upstreams.positions import Plain, RelativePositions, WeightNormed

SMALL = EncoderConfig(
    conv_layers=((16, 10, 5), *((16, 3, 2),) * 4, *((16, 2, 2),) * 2),
    width=32,
    layers=3,
    heads=4,
    ffn_width=48,
    position_taps=16,
    position_groups=4,
)
DEEP = {"position_taps": 5, "position_depth": 5}
ARCHITECTURES = {
    "group post": SMALL,
    "group pre": replace(SMALL, norm_first=True),
    "layer post": replace(SMALL, conv_norm="layer", normalize=True),
    "layer pre bias": replace(SMALL, conv_norm="layer", conv_bias=True, norm_first=True, normalize=True),
    "deep positions": replace(SMALL, conv_norm="layer", normalize=True, **DEEP),
    "deep positions group": replace(SMALL, **DEEP),
    "relative": replace(SMALL, relative_buckets=16, relative_distance=40),
    "relative pre": replace(SMALL, relative_buckets=16, relative_distance=40, conv_norm="layer", norm_first=True),
    "no projection": replace(SMALL, width=16, projection=False, feature_norm=False),
    "odd taps": replace(SMALL, position_taps=19),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def build(config: EncoderConfig, *, frozen: bool = True, seed: int = 0) -> Encoder:
    """An encoder whose every parameter is random, norms and biases too, so that none can be forgotten."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = Encoder(config)
        for parameter in encoder.parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter, 0.5, 0.3)
    return encoder.eval().requires_grad_(not frozen)


def waves(*lengths: int) -> list[Tensor]:
    """Noise on a slow tone, each wave with a loudness and an offset of its own."""
    generator = torch.Generator().manual_seed(1)
    return [
        0.1 * (i + 1) * torch.randn(n, generator=generator, dtype=torch.float64)
        + torch.sin(torch.arange(n, dtype=torch.float64) / 50)
        + 0.2 * i
        for i, n in enumerate(lengths)
    ]


def alone_and_together(encoder: Encoder, sounds: list[Tensor]) -> float:
    """The largest difference between what each wave gives alone and what it gives among the others."""
    taps = ("states", "ffn")
    with torch.inference_mode():
        together = encoder(sounds, taps=taps)
        worst = 0.0
        for i, wave in enumerate(sounds):
            alone = encoder([wave], taps=taps)
            length = together.lengths[i]
            assert alone.lengths == (length,)
            pairs = [
                *zip(alone.hidden, together.hidden, strict=True),
                *zip(alone.ffn, together.ffn, strict=True),
                (alone.projected, together.projected),
                (alone.convolved, together.convolved),
            ]
            assert len(pairs) == 2 * encoder.config.layers + 3
            worst = max(worst, *(float((a[0] - b[i, :length]).abs().max()) for a, b in pairs))
    return worst


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_a_batch_gives_each_utterance_what_it_has_alone(name: str, dtype: torch.dtype, limit: float) -> None:
    encoder = build(ARCHITECTURES[name]).fix().to(dtype)
    sounds = [w.to(dtype) for w in waves(4000, 1000, 3999, 400, 2600)]  # padded up to ten times
    assert alone_and_together(encoder, sounds) < limit


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(400, 3000), min_size=2, max_size=5), name=st.sampled_from(sorted(ARCHITECTURES)))
def test_any_batch_is_exact(lengths: list[int], name: str) -> None:
    assert alone_and_together(build(ARCHITECTURES[name]).double(), waves(*lengths)) < 1e-10


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_where_all_are_on_another_device_than_a_cpu_the_front_computes_them_at_once(name: str) -> None:
    front = build(ARCHITECTURES[name]).double().convolutions
    sounds = waves(4000, 1000, 3999, 400)
    with torch.inference_mode():
        fitted = [front.layers[0].fit(wave) for wave in sounds]
        for together, wave in zip(front._together(sounds, fitted), sounds, strict=True):
            torch.testing.assert_close(together, front([wave])[0], rtol=0, atol=1e-11)


@given(samples=st.integers(0, 60000))
def test_frames_are_what_the_convolutions_leave(samples: int) -> None:
    assert count_frames(samples, STANDARD) == max(0, (samples - 400) // 320 + 1)


@pytest.mark.parametrize("layers", [SMALL.conv_layers, ((4, 7, 2), (6, 5, 3), (4, 2, 4)), ((3, 4, 4), (5, 1, 1))])
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_the_front_is_a_chain_of_convolutions(layers: tuple[tuple[int, int, int], ...], norm: str) -> None:
    front = ConvolutionalFront(layers, norm=norm, bias=True).double()
    for parameter in front.parameters():
        nn.init.normal_(parameter, 0.1, 0.5)
    for wave in waves(1000, 417, 430):
        x = wave[None, None]
        for i, (layer, (_, _, stride)) in enumerate(zip(front.layers, layers, strict=True)):
            x = F.conv1d(x, layer.weight, layer.bias, stride=stride)
            if norm == "group" and i == 0:
                x = F.group_norm(x, x.shape[1], layer.norm.weight, layer.norm.bias)
            elif norm == "layer":
                x = F.layer_norm(x.mT, x.shape[1:2], layer.norm.weight, layer.norm.bias).mT
            x = F.gelu(x)
        (frames,) = front([wave])
        torch.testing.assert_close(frames, x[0].T, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", [WeightNormed, Plain])
@pytest.mark.parametrize("taps", [1, 2, 5, 16, 19, 128])
@pytest.mark.parametrize("frames", [1, 7, 130, 700])
def test_a_fixed_positional_convolution_is_the_convolution_itself(kind: type, taps: int, frames: int) -> None:
    layer = kind(8, taps, 2).double()
    nn.init.normal_(layer.bias)
    x = torch.randn(2, frames, 8, dtype=torch.float64)
    trained = layer(x)
    plain = F.conv1d(x.mT, layer.kernel(), layer.bias, padding=taps // 2, groups=2)[..., :frames].mT
    torch.testing.assert_close(trained, plain)
    layer.fix()
    torch.testing.assert_close(layer(x), plain, rtol=0, atol=1e-12)


def test_the_weight_norm_is_torch_s() -> None:
    ours = WeightNormed(8, 16, 2)
    theirs = nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 8, 16, groups=2), dim=2)
    theirs.parametrizations.weight.original0.data = ours.weight_g.data * 1.5
    theirs.parametrizations.weight.original1.data = ours.weight_v.data
    ours.weight_g.data *= 1.5
    torch.testing.assert_close(ours.kernel(), theirs.weight)


def test_new_weights_make_a_new_spectrum() -> None:
    layer = Plain(8, 16, 2).requires_grad_(False)
    layer.fix()
    x = torch.randn(1, 20, 8)
    before = layer(x)
    layer.load_state_dict({"weight": 2 * layer.weight, "bias": layer.bias})
    torch.testing.assert_close(layer(x), 2 * before, rtol=0, atol=1e-5)
    assert layer.double()(x.double()).dtype == torch.float64
    torch.testing.assert_close(layer(x.double()).float(), 2 * before, rtol=0, atol=1e-5)


def test_an_averaged_teacher_follows_its_student() -> None:
    student, teacher = build(SMALL, seed=1), build(SMALL, seed=2)
    sounds = [w.float() for w in waves(2000, 900)]
    teacher(sounds)
    for ours, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
        ours.data.mul_(0.5).add_(theirs.data, alpha=0.5)
    fresh = Encoder(SMALL).eval()
    fresh.load_state_dict(teacher.state_dict())
    torch.testing.assert_close(teacher(sounds).last, fresh(sounds).last, rtol=0, atol=2e-5)


def test_an_encoder_may_be_built_and_fixed_in_inference_mode() -> None:
    with torch.inference_mode():
        encoder = Encoder(SMALL).eval()
        sounds = [w.float() for w in waves(2000)]
        loose = encoder(sounds).last
        torch.testing.assert_close(encoder.fix()(sounds).last, loose, rtol=0, atol=2e-5)


@pytest.mark.parametrize("offset", [0.0, 0.01, 0.5])
def test_an_offset_costs_a_quiet_sound_no_digits(offset: float) -> None:
    encoder = build(SMALL)
    (wave,) = waves(4000)
    quiet = 1e-3 * (wave - wave.mean()) + offset
    with torch.inference_mode():
        near = encoder([quiet.float()]).last
        exact = encoder.double()([quiet.float().double()]).last
    assert (near.double() - exact).abs().max() < 2e-5


@pytest.mark.parametrize("layers", [-1, 4])
def test_layers_that_are_not_there(layers: int) -> None:
    with pytest.raises(UsageError, match=f"layers={layers}: this encoder has 3"):
        build(SMALL)([torch.randn(2000)], layers=layers)


def test_convolutions_without_a_gradient_are_left_alone() -> None:
    encoder = build(replace(SMALL, conv_grad_scale=0.0), frozen=False).double()
    encoder(waves(2000)).last.sum().backward()
    assert all((p.grad is None) == n.startswith(("convolutions.", "mask_emb")) for n, p in encoder.named_parameters())


def test_relative_positions_fall_into_the_buckets_of_t5() -> None:
    table = RelativePositions(buckets=8, distance=16, heads=1)
    with torch.no_grad():
        table.weight.copy_(torch.arange(8.0)[:, None])
    # 4 buckets for each direction: 0 and 1 exactly, then log2(n / 2) / log2(16 / 2) * 2, at most the last
    ahead = [0, 5, 6, 6, 6, 6, 7, 7, 7, 7]
    behind = [0, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    assert table(10)[0, 0].tolist() == ahead
    assert table(10)[0, :, 0].tolist() == behind


def test_equal_lengths_need_no_mask() -> None:
    encoder = build(SMALL).double()
    seen = []
    for layer in encoder.layers:
        layer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[1] is None))
    encoder(waves(2000, 2000))
    encoder(waves(2000, 2010))  # as many frames
    encoder(waves(2000, 3000))
    assert seen == [True] * 6 + [False] * 3


def test_masked_frames_are_the_mask_embedding_before_positions() -> None:
    encoder = build(SMALL).double()
    sounds = waves(4000, 2000)
    mask = torch.zeros(2, 12, dtype=torch.bool)
    mask[0, 3:6] = mask[1, :2] = True
    with torch.inference_mode():
        plain, masked = encoder(sounds), encoder(sounds, mask_BT=mask)
        x = plain.projected.clone()
        x[mask] = encoder.mask_embedding
        expected = encoder.position(x, plain.lengths)
    torch.testing.assert_close(masked.projected, plain.projected)
    for row, length in enumerate(plain.lengths):
        torch.testing.assert_close(masked.states[0][row, :length], expected[row, :length])
    assert not torch.allclose(masked.last[0], plain.last[0])


@pytest.mark.parametrize("name", ["group post", "relative pre"])
@pytest.mark.parametrize("deep", [False, True])
def test_prompts_are_heard_and_cut(name: str, deep: bool) -> None:
    config = ARCHITECTURES[name]
    encoder = build(config).double()
    prompts = torch.randn(*([config.layers] if deep else []), 5, config.width, dtype=torch.float64)
    sounds = waves(4000, 2000)
    with torch.inference_mode():
        plain = encoder(sounds)
        prompted = encoder(sounds, prompts=prompts)
        for row, wave in enumerate(sounds):
            alone = encoder([wave], prompts=prompts)
            for ours, theirs in zip(alone.hidden, prompted.hidden, strict=True):
                torch.testing.assert_close(ours[0], theirs[row, : alone.lengths[0]], rtol=0, atol=1e-10)
    assert [x.shape for x in prompted.hidden] == [x.shape for x in plain.hidden]
    torch.testing.assert_close(prompted.states[0], plain.states[0])
    assert (prompted.last - plain.last)[0].abs().max() > 1e-3


def test_prompts_and_mask_embedding_can_be_trained_in_a_frozen_encoder() -> None:
    encoder = build(SMALL).double()
    prompts = torch.randn(4, SMALL.width, dtype=torch.float64, requires_grad=True)
    encoder.mask_embedding.requires_grad_(True)
    encoder(waves(2000), prompts=prompts, mask_BT=torch.ones(1, 6, dtype=torch.bool)).last.square().sum().backward()
    assert prompts.grad is not None
    assert prompts.grad.abs().min() > 0
    assert [n for n, p in encoder.named_parameters() if p.grad is not None] == ["mask_embedding"]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradients_do_not_depend_on_the_batch_either(name: str) -> None:
    encoder = build(ARCHITECTURES[name], frozen=False).double()
    sounds = waves(2600, 1000, 1800)

    def gradients(batches: list[list[Tensor]]) -> dict[str, Tensor]:
        encoder.zero_grad()
        for batch in batches:
            found = encoder(batch)
            torch.stack([found.last[i, :n].sin().sum() for i, n in enumerate(found.lengths)]).sum().backward()
        return {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}

    one, many = gradients([sounds]), gradients([[w] for w in sounds])
    untrained = {"mask_embedding"}
    assert set(one) == set(many) == {n for n, _ in encoder.named_parameters()} - untrained
    for parameter, gradient in one.items():
        scale = max(1.0, float(gradient.abs().max()))
        assert (gradient - many[parameter]).abs().max() < 1e-9 * scale, parameter


def test_gradients_are_those_of_finite_differences() -> None:
    encoder = build(replace(SMALL, layers=1, relative_buckets=8, relative_distance=20), frozen=False).double()
    (wave,) = waves(1200)
    wave.requires_grad_(True)
    encoder([wave]).last.sin().sum().backward()
    assert wave.grad is not None
    step = torch.zeros_like(wave)
    step[500] = 1e-6
    with torch.no_grad():
        up, down = (encoder([wave + s]).last.sin().sum() for s in (step, -step))
    assert float(wave.grad[500]) == pytest.approx(float(up - down) / 2e-6, rel=1e-5, abs=1e-7)


def test_the_gradient_that_enters_the_convolutions_is_scaled() -> None:
    found = {}
    for scale in (1.0, 0.1):
        encoder = build(replace(SMALL, conv_grad_scale=scale), frozen=False).double()
        encoder(waves(2000)).last.sin().sum().backward()
        found[scale] = {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}
    for name, gradient in found[1.0].items():
        factor = 0.1 if name.startswith("convolutions.") else 1.0
        torch.testing.assert_close(found[0.1][name], factor * gradient)


def test_parts_can_be_frozen() -> None:
    encoder = build(SMALL, frozen=False).freeze(layers=(0, 1))
    encoder(waves(2000)[0].float()[None].unbind()).last.sum().backward()
    trained = {n for n, p in encoder.named_parameters() if p.grad is not None}
    assert {n.rpartition("layers.2.")[0] for n in trained} == {""}
    assert trained == {n for n, p in encoder.named_parameters() if p.requires_grad}


def test_the_first_layers_can_be_run_alone() -> None:
    encoder = build(ARCHITECTURES["group pre"]).double()
    whole, part = encoder(waves(2000, 900)), encoder(waves(2000, 900), layers=2, taps=("states", "ffn"))
    assert [len(part.states), len(part.ffn)] == [3, 2]
    torch.testing.assert_close(part.last, whole.states[2])
    assert encoder(waves(2000), layers=0).last.equal(encoder(waves(2000)).states[0])
    nothing = encoder(waves(2000, 900), taps=("last",))
    assert nothing.states == nothing.ffn == ()
    torch.testing.assert_close(nothing.last, whole.last)


def test_dropout_and_layerdrop_are_for_training_alone() -> None:
    config = replace(
        SMALL, dropout=0.3, input_dropout=0.3, attention_dropout=0.3, activation_dropout=0.3, layerdrop=0.5
    )
    encoder = build(config)
    sounds = [w.float() for w in waves(2000, 900)]
    assert encoder(sounds).last.equal(encoder(sounds).last)
    encoder.train()
    found = [encoder(sounds) for _ in range(4)]
    assert all(len(e.states) == 4 for e in found)
    assert all(not a.last.equal(b.last) for a, b in itertools.combinations(found, 2))


def test_state_dicts_come_and_go_with_dtypes() -> None:
    encoder = build(ARCHITECTURES["relative"])
    again = Encoder(encoder.config).eval().requires_grad_(False)
    again.load_state_dict({n: t.clone() for n, t in encoder.state_dict().items()})
    sounds = [w.float() for w in waves(2000, 900)]
    assert again(sounds).last.equal(encoder(sounds).last)
    assert again.double()(waves(2000)).last.dtype == torch.float64
