"""What each method says, held against the same thing written plainly, on small random checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_encoder import ARCHITECTURES, DEEP, SMALL, build, waves
from torch import Tensor

from superbench.errors import DataError, PluginError, UsageError
from superbench_upstreams import data2vec, dcspin, dinosr, distilhubert, hubert, rspin, spin, wav2vec2, wavlm
from superbench_upstreams.checkpoints import Checkpoint, write_checkpoint
from superbench_upstreams.frozen import FrozenEncoder

RELATIVE = ARCHITECTURES["relative"]
DEEP_LAYER = replace(SMALL, conv_norm="layer", normalize=True, **DEEP)
MODULES = {
    "hubert": (hubert, SMALL),
    "wav2vec2": (wav2vec2, ARCHITECTURES["layer pre bias"]),
    "wavlm": (wavlm, RELATIVE),
    "data2vec": (data2vec, DEEP_LAYER),
    "dinosr": (dinosr, DEEP_LAYER),
    "spin": (spin, SMALL),
    "rspin": (rspin, RELATIVE),
    "dcspin": (dcspin, SMALL),
    "distilhubert": (distilhubert, replace(SMALL, layers=2, feature_norm=False)),
}
WIDTH = SMALL.width


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def extras(method: str) -> dict[str, Tensor]:
    """What a method adds to its encoder, at random."""
    if method in ("spin", "rspin", "dcspin"):
        names = ["", "auxiliary_"] if method == "dcspin" else [""]
        sizes = dict(zip(names, (7, 19), strict=False))
        return {
            key: value
            for name, words in sizes.items()
            for key, value in {
                f"{name}head.weight": drawn(5, WIDTH),
                f"{name}head.bias": drawn(5),
                f"{name}codebook.weight": drawn(words, 5),
            }.items()
        }
    if method == "dinosr":
        teacher = build(DEEP_LAYER, seed=7).state_dict()
        below = ("positions.", "layers.", "norm.")
        return {
            **{f"teacher.{name}": tensor for name, tensor in teacher.items() if name.startswith(below)},
            **{f"codebooks.{k}": 3 * drawn(11, WIDTH) for k in range(2)},
            **{f"codebook_counts.{k}": 1 + drawn(11).abs() for k in range(2)},
            **{f"heads.{k}.weight": drawn(11, WIDTH + k)[:, :WIDTH] for k in range(2)},
            **{f"heads.{k}.bias": drawn(11) for k in range(2)},
        }
    if method == "distilhubert":
        return {
            "outputs.0.weight": drawn(3 * 10, WIDTH),
            "outputs.0.bias": drawn(3 * 10),
            "outputs.2.weight": drawn(3, 10, WIDTH),
            "outputs.2.bias": drawn(1, 1, 3, WIDTH),
        }
    return {}


SETTINGS: dict[str, dict[str, Any]] = {
    "spin": {"temperature": 0.1},
    "dcspin": {"temperature": 0.1},
    "rspin": {"temperature": 1.0},
    "distilhubert": {"pred_layer_id": [4, 8, 12]},
}


def checkpoint(method: str, **changes: Any) -> Checkpoint:
    _, config = MODULES[method]
    made = Checkpoint(
        family=method,
        format="made",
        config=config,
        weights=build(config, seed=3).state_dict(),
        extras=extras(method),
        settings=SETTINGS.get(method, {}),
    )
    return replace(made, **changes)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., FrozenEncoder]:
    """Write a checkpoint in our own format and load it as a user would."""

    def load(method: str, made: Checkpoint | None = None, **options: Any) -> FrozenEncoder:
        folder = tmp_path / f"{method}{len(list(tmp_path.iterdir()))}"
        write_checkpoint(folder, made or checkpoint(method))
        module: ModuleType = MODULES[method][0]
        upstream: FrozenEncoder = module.load(module.SPEC.options(checkpoint=str(folder), **options), "cpu")
        return upstream

    return load


@pytest.mark.parametrize("method", MODULES)
def test_every_output_is_exact_in_any_batch(method: str, opened: Callable[..., FrozenEncoder]) -> None:
    upstream = opened(method).astype(torch.float64)
    sounds = waves(4000, 1000, 3999, 400, 2600)
    for name in upstream.taps:
        tap = upstream.tap(name)
        together = tap(sounds)
        for wave, batched in zip(sounds, together, strict=True):
            (alone,) = tap([wave])
            assert len(alone.tensors) == len(tap.widths) == len(tap.strides)
            for ours, theirs, width in zip(alone.tensors, batched.tensors, tap.widths, strict=True):
                assert ours.shape == (tap.num_frames(len(wave)), width)
                assert ours.is_floating_point() != tap.integers
                if tap.integers:
                    assert ours.equal(theirs)
                else:
                    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", MODULES)
def test_what_a_head_sums(method: str, opened: Callable[..., FrozenEncoder]) -> None:
    upstream = opened(method).astype(torch.float64)
    (wave,) = waves(3000)
    encoded = upstream.method.encoder([wave], taps=("states",))
    (layers,) = upstream([wave])
    projected_first = method in ("spin", "rspin", "dcspin", "distilhubert")
    first = encoded.projected if projected_first else encoded.states[0]
    expected = [first, *encoded.states[1:-1], encoded.states[-1] if projected_first else encoded.last]
    for ours, theirs in zip(layers.tensors, expected, strict=method != "distilhubert"):
        assert ours.equal(theirs[0])
    assert upstream.tap("hidden")([wave])[0].tensors[-1].equal(layers.tensors[-1])


@pytest.mark.parametrize("method", ["spin", "rspin", "dcspin"])
def test_codes_are_the_nearest_words_on_the_sphere(method: str, opened: Callable[..., FrozenEncoder]) -> None:
    upstream = opened(method).astype(torch.float64)
    (wave,) = waves(3000)
    last = upstream.method.encoder([wave]).states[-1][0]
    made = extras(method)
    for name in ["", "auxiliary_"] if method == "dcspin" else [""]:
        z = last @ made[f"{name}head.weight"].double().T + made[f"{name}head.bias"].double()
        z = z / z.norm(dim=-1, keepdim=True)
        similarity = z @ made[f"{name}codebook.weight"].double().T
        temperature = SETTINGS[method]["temperature"]
        said = {
            n: upstream.tap(name + n)([wave])[0].tensors[0]
            for n in ("disentangled", "logits", "probabilities", "codes")
        }
        torch.testing.assert_close(said["disentangled"], z)
        torch.testing.assert_close(said["logits"], similarity / temperature)
        torch.testing.assert_close(said["probabilities"], (similarity / temperature).softmax(-1))
        assert said["codes"].tolist() == similarity.argmax(-1, keepdim=True).tolist()


def test_spin_may_read_a_lower_layer(opened: Callable[..., FrozenEncoder]) -> None:
    upstream = opened("spin", checkpoint("spin", settings={"temperature": 0.1, "layer": 2})).astype(torch.float64)
    (wave,) = waves(3000)
    made, state = extras("spin"), upstream.method.encoder([wave]).states[2][0]
    z = F.normalize(state @ made["head.weight"].double().T + made["head.bias"].double(), dim=-1)
    torch.testing.assert_close(upstream.tap("disentangled")([wave])[0].tensors[0], z)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"layer": 4}, "on layer 4"),
        ({"layer": True}, "on layer True"),
        ({"temperature": "hot"}, "temperature of 'hot'"),
        ({"temperature": 0.0}, r"temperature of 0\.0"),
    ],
)
def test_settings_of_a_codebook_are_checked(
    opened: Callable[..., FrozenEncoder], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(PluginError, match=said):
        opened("spin", checkpoint("spin", settings=settings))


def test_positions_of_layers_that_do_not_run_are_not_computed(opened: Callable[..., FrozenEncoder]) -> None:
    upstream = opened("wavlm")
    upstream.method.encoder.relative_positions.register_forward_pre_hook(lambda *_: pytest.fail("T x T numbers"))
    assert upstream.tap("projected")([waves(3000)[0].float()])[0].tensors[0].shape == (9, WIDTH)


def test_dinosr_s_codes_are_the_teacher_s_nearest_words(opened: Callable[..., FrozenEncoder]) -> None:
    upstream = opened("dinosr").astype(torch.float64)
    (wave,) = waves(3000)
    made = extras("dinosr")
    student = upstream.method.encoder([wave])
    teacher = build(DEEP_LAYER, seed=7).double()
    ffn = teacher.transform(teacher.position(student.projected, student.lengths), student.lengths, taps=("ffn",))[1]
    codes = upstream.tap("codes")([wave])[0].tensors[0]
    predictions = upstream.tap("predictions")([wave])[0].tensors[0]
    assert codes.shape == predictions.shape == (student.lengths[0], 2)
    assert len({*codes.flatten().tolist()}) > 2
    for k, layer in enumerate((ffn[-2][0], ffn[-1][0])):
        x = (layer - layer.mean(0)) / (layer.var(0, unbiased=False) + 1e-5).sqrt()
        words = (made[f"codebooks.{k}"] / made[f"codebook_counts.{k}"][:, None]).double()
        assert codes[:, k].tolist() == torch.cdist(x, words).argmin(-1).tolist()
        logits = student.last[0] @ made[f"heads.{k}.weight"].double().T + made[f"heads.{k}.bias"].double()
        torch.testing.assert_close(upstream.tap("logits")([wave])[0].tensors[k], logits)
        assert predictions[:, k].tolist() == logits.argmax(-1).tolist()
    assert len(upstream.tap("teacher")([wave])[0].tensors) == 4


def test_dinosr_without_a_teacher_is_refused(opened: Callable[..., FrozenEncoder]) -> None:
    stripped = {name: tensor for name, tensor in extras("dinosr").items() if not name.startswith("teacher.")}
    with pytest.raises(PluginError, match="no teacher"):
        opened("dinosr", checkpoint("dinosr", extras=stripped))


@pytest.mark.parametrize("heads", [3, 1, 0])
def test_distilhubert_s_predictions_follow_its_layers(heads: int, opened: Callable[..., FrozenEncoder]) -> None:
    made = extras("distilhubert")
    if heads == 1:
        made = {
            "outputs.0.weight": drawn(10, WIDTH),
            "outputs.0.bias": drawn(10),
            "outputs.2.layer.weight": drawn(WIDTH, 10),
            "outputs.2.layer.bias": drawn(WIDTH),
        }
    upstream = opened("distilhubert", checkpoint("distilhubert", extras=made if heads else {})).astype(torch.float64)
    (wave,) = waves(3000)
    (layers,) = upstream([wave])
    assert len(layers.tensors) == 3 + heads
    assert ("predictions" in upstream.taps) == bool(heads)
    last = upstream.method.encoder([wave]).last[0]
    for head in range(heads):
        rows = slice(10 * head, 10 * (head + 1))
        inner = F.gelu(last @ made["outputs.0.weight"][rows].double().T + made["outputs.0.bias"][rows].double())
        if heads == 1:
            expected = inner @ made["outputs.2.layer.weight"].double().T + made["outputs.2.layer.bias"].double()
        else:
            expected = inner @ made["outputs.2.weight"][head].double() + made["outputs.2.bias"][0, 0, head].double()
        torch.testing.assert_close(layers.tensors[3 + head], expected)


def test_outputs_that_need_no_transformer_do_not_run_it(opened: Callable[..., FrozenEncoder]) -> None:
    upstream = opened("dinosr")
    upstream.method.encoder.layers[0].register_forward_pre_hook(lambda *_: pytest.fail("the student's layers ran"))
    (wave,) = waves(3000)
    for name in ("convolved", "projected", "codes", "teacher"):
        assert upstream.tap(name)([wave.float()])[0].tensors[0].shape[0] == 9


def test_in_bfloat16_features_are_near_and_come_as_float32(opened: Callable[..., FrozenEncoder]) -> None:
    for method in ("hubert", "wavlm", "data2vec"):
        exact, near = opened(method), opened(method, dtype="bfloat16")
        sounds = [w.float() for w in waves(4000, 1500)]
        for ours, theirs in zip(near(sounds), exact(sounds), strict=True):
            for a, b in zip(ours.tensors, theirs.tensors, strict=True):
                assert a.dtype == torch.float32
                assert not hasattr(near, "exact_batches")  # nor can it go back to what was rounded away:
                assert not hasattr(near.tap("ffn"), "astype")
                assert 1e-4 < float((a - b).norm() / b.norm()) < 3e-2


def test_the_eps_of_the_framework_counts_where_sound_is_quiet(opened: Callable[..., FrozenEncoder]) -> None:
    config = MODULES["wav2vec2"][1]
    sounds = [0.003 * w / w.std() for w in waves(4000)]
    found = []
    for eps in (1e-5, 1e-7):
        made = checkpoint("wav2vec2", config=replace(config, normalize_eps=eps))
        upstream = opened("wav2vec2", made).astype(torch.float64)
        by_hand = (sounds[0] - sounds[0].mean()) / (sounds[0].var(unbiased=False) + eps).sqrt()
        plain = opened("wav2vec2", replace(made, config=replace(config, normalize=False))).astype(torch.float64)
        found.append(upstream(sounds)[0].tensors[1])
        torch.testing.assert_close(found[-1], plain([by_hand])[0].tensors[1])
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_a_hash_answers_for_all_that_decides_the_features(opened: Callable[..., FrozenEncoder]) -> None:
    made = checkpoint("spin")
    same = opened("spin", made).weights_sha
    assert opened("spin", replace(made, format="another")).weights_sha == same
    assert opened("spin", replace(made, config=replace(made.config, dropout=0.5, layerdrop=0.1))).weights_sha == same
    others = {
        opened("spin", replace(made, config=replace(made.config, normalize=True))).weights_sha,
        opened("spin", replace(made, settings={"temperature": 0.2})).weights_sha,
        opened("spin", replace(made, extras={**made.extras, "head.bias": made.extras["head.bias"] + 1})).weights_sha,
    }
    assert len(others | {same}) == 4


@pytest.mark.parametrize("method", MODULES)
def test_what_computes_is_among_the_sources_of_the_key(method: str, opened: Callable[..., FrozenEncoder]) -> None:
    ours = {type(part).__module__ for part in opened(method).method.modules()}
    ours = {name for name in ours if name.startswith("superbench_upstreams")} | {FrozenEncoder.__module__}
    assert ours <= set(MODULES[method][0].SPEC.sources)


def test_what_is_wrong_is_told(opened: Callable[..., FrozenEncoder]) -> None:
    upstream = opened("hubert")
    with pytest.raises(DataError, match=r"a sound of 399 samples is too short") as short:
        upstream([torch.zeros(400), torch.zeros(399)])
    assert "fewer than 400 samples" in short.value.hint
    with pytest.raises(DataError, match=r"one channel"):
        upstream([torch.zeros(2, 4000)])
    with pytest.raises(DataError, match=r"floating point, not torch.int16"):
        upstream([torch.zeros(4000, dtype=torch.int16)])
    with pytest.raises(UsageError, match="no tap 'fnn'") as unknown:
        upstream.tap("fnn")
    assert "'ffn'" in unknown.value.hint
