"""The `huggingface` upstream gives what transformers gives for one utterance, and refuses whatever is in doubt."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from superbench import torchaudio_loader
from superbench.errors import DataError, MissingExtraError, PluginError, UsageError
from superbench_upstreams import huggingface
from superbench_upstreams.huggingface import HuggingFace, Options
from superbench_upstreams.huggingface_fronts import normalized

torchaudio_loader.load()  # before anything imports transformers
transformers = pytest.importorskip("transformers", reason="transformers (the extra 'hf') is not installed")

STRIDES = {"sew": (640, 640, 640, 320), "sew-d": (640, 640, 640, 320), "speech_to_text": (640,) * 3}


def _load(folder: Path, **options: str) -> HuggingFace:
    upstream = huggingface.SPEC.load(Options(checkpoint=str(folder), **options), "cpu")
    assert isinstance(upstream, HuggingFace)
    return upstream


def _copy(folder: Path, to: Path, **changes: Any) -> Path:
    """A copy of a checkpoint whose config.json says `changes`."""
    shutil.copytree(folder, to)
    settings = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**settings, **changes}))
    return to


def _noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.05 * torch.randn(samples, generator=torch.Generator().manual_seed(seed)) + 0.01


def _by_transformers(folder: Path, wave: torch.Tensor) -> list[torch.Tensor]:
    """What one gets by following transformers' documentation: feature extractor with its defaults, then the model."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    inputs = extractor(wave.numpy(), sampling_rate=16000, return_tensors="pt")
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model
    with torch.no_grad():
        output = encoder(**inputs, output_hidden_states=True)
    states = [*output.hidden_states, output.last_hidden_state]
    if states[-1].shape == states[-2].shape:
        del states[-2]
    return [state[0] for state in states]


def test_it_equals_transformers(folders: dict[str, Path], family: str) -> None:
    upstream = _load(folders[family])
    for samples in (16000, 12121):
        wave = _noise(samples)
        (layers,) = upstream([wave])
        expected = _by_transformers(folders[family], wave)
        assert len(layers.tensors) == len(expected) == len(upstream.strides)
        for ours, theirs in zip(layers.tensors, expected, strict=True):
            extra = theirs.shape[0] - ours.shape[0]
            if family == "whisper":
                assert ours.shape[0] == -(-samples // 320)  # the rest is the silence that fills the window
            elif family == "wav2vec2-bert":
                assert extra == ((samples - 400) // 160 + 1) % 2  # theirs pads an odd last mel frame, and masks it
            else:
                assert extra == 0
            torch.testing.assert_close(ours, theirs[: ours.shape[0]], rtol=0, atol=2e-5)


def test_it_states_exactly_the_frames_that_come_out(folders: dict[str, Path], family: str) -> None:
    upstream = _load(folders[family])
    assert tuple(upstream.strides) == STRIDES.get(family, (320,) * 3)
    assert set(upstream.widths) == {32}
    assert upstream.sample_rate == 16000
    lengths = [400, 401, 559, 560, 561, 719, 720, 721, 879, 880, 881, 1039, 1040, 1041, 1359, 1360, 1361]
    for samples in [1, 399, *lengths, 5039, 5040, 5119, 5120, 5121, 5360, 16123, 31999, 32000]:
        frames = upstream.num_frames(samples)
        if min(frames) < 1:
            assert max(frames) == 0
            with pytest.raises(DataError, match=f"{samples} samples is too short"):
                upstream([_noise(samples)])
        else:
            (layers,) = upstream([_noise(samples)])
            assert [tuple(t.shape) for t in layers.tensors] == list(zip(frames, upstream.widths, strict=True))
            assert all(bool(torch.isfinite(t).all()) for t in layers.tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neither_batch_nor_history_nor_global_state_matters(
    folders: dict[str, Path], family: str, dtype: torch.dtype
) -> None:
    state = torch.random.get_rng_state()
    upstream = _load(folders[family]).astype(dtype)
    waves = [_noise(6000, 1), _noise(31000, 2), _noise(4321, 3)]
    before = [wave.clone() for wave in waves]
    alone = [upstream([wave])[0] for wave in waves]
    together = upstream(waves[::-1])[::-1]
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.tensors, other.tensors, strict=True))
        assert {t.dtype for t in one.tensors} == {dtype}
        assert not any(t.requires_grad for t in one.tensors)
    assert all(torch.equal(a, b) for a, b in zip(waves, before, strict=True))
    assert torch.equal(state, torch.random.get_rng_state())


def test_float64_is_float32_computed_better(folders: dict[str, Path]) -> None:
    wave = _noise(16000)
    (single,), (double,) = _load(folders["wav2vec2"])([wave]), _load(folders["wav2vec2"]).astype(torch.float64)([wave])
    differences = [float((a - b).abs().max()) for a, b in zip(single.tensors, double.tensors, strict=True)]
    assert 0 < max(differences) < 2e-5


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-4])
def test_waves_are_normalised_as_by_the_feature_extractor(folders: dict[str, Path], scale: float) -> None:
    wave = scale * _noise(16000)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    expected = extractor(wave.numpy(), sampling_rate=16000, return_tensors="pt")["input_values"][0]
    torch.testing.assert_close(normalized(wave), expected, rtol=0, atol=2e-6)


def test_normalize_is_the_checkpoints_word_or_the_users(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = _copy(folders["wav2vec2"], tmp_path / "copy")
    wave = _noise(8000)

    def top(**options: str) -> torch.Tensor:
        return _load(folder, **options)([wave])[0].tensors[-1]

    assert torch.equal(top(), top(normalize="true"))
    assert not torch.allclose(top(), top(normalize="false"), atol=1e-3)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(PluginError, match="does not say whether waveforms are normalised") as caught:
        top()
    assert "normalize=true" in caught.value.hint
    assert torch.isfinite(top(normalize="false")).all()
    nested = {"feature_extractor": {"do_normalize": True, "sampling_rate": 8000}}  # as transformers 5 nests it
    (folder / "processor_config.json").write_text(json.dumps(nested))
    assert torch.equal(top(), top(normalize="true"))
    assert _load(folder).sample_rate == 8000
    with pytest.raises(UsageError, match="'yes' is not one of auto, true, false"):
        top(normalize="yes")
    with pytest.raises(UsageError, match="was given for whisper"):
        _load(folders["whisper"], normalize="true")


def test_whisper_hears_no_more_than_its_window(folders: dict[str, Path]) -> None:
    upstream = _load(folders["whisper"])
    assert upstream.max_samples == 32000  # chunk_length 2 here, 480000 samples for the official 30 s
    with pytest.raises(DataError, match="at most 32000 samples"):
        upstream([_noise(32001)])
    assert not hasattr(_load(folders["hubert"]), "max_samples")


def test_weights_sha_follows_what_decides_the_features(folders: dict[str, Path], tmp_path: Path) -> None:
    def sha(folder: Path, **options: str) -> str:
        return _load(folder, **options).weights_sha

    one = sha(folders["wavlm"])
    assert len(one) == 64
    assert one == sha(_copy(folders["wavlm"], tmp_path / "same", transformers_version="4.0.0"))
    other = {
        sha(_copy(folders["wavlm"], tmp_path / "settings", hidden_act="relu")),
        sha(folders["wavlm"], normalize="false"),
        sha(folders["hubert"]),
    }
    weights = _copy(folders["wavlm"], tmp_path / "weights")
    state = torch.load(_as_pickle(weights), weights_only=True)
    state["encoder.layer_norm.bias"][0] += 1e-3
    torch.save(state, weights / "pytorch_model.bin")
    other.add(sha(weights))
    assert len(other) == 4
    assert one not in other


def _as_pickle(folder: Path) -> Path:
    """Turn model.safetensors of `folder` into pytorch_model.bin."""
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder / "pytorch_model.bin"


def test_a_pickle_of_tensors_is_read_and_any_other_is_refused_unopened(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = _copy(folders["hubert"], tmp_path / "copy")
    weights = _as_pickle(folder)
    wave = _noise(4000)
    expected = _load(folders["hubert"])([wave])[0].tensors[-1]
    assert torch.equal(_load(folder)([wave])[0].tensors[-1], expected)

    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return os.system, (f"touch {canary}",)

    torch.save({"weights": Payload()}, weights)
    with pytest.raises(PluginError, match="a pickle that holds more than tensors"):
        _load(folder)
    weights.write_bytes(pickle.dumps({"weights": Payload()}, protocol=2))
    with pytest.raises(PluginError):
        _load(folder)
    assert not canary.exists()


def test_weights_that_would_be_random_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = _copy(folders["hubert"], tmp_path / "copy")
    weights = _as_pickle(folder)
    state = torch.load(weights, weights_only=True)
    del state["masked_spec_embed"]  # read in training only
    torch.save(state, weights)
    assert _load(folder).weights_sha == _load(folders["hubert"]).weights_sha
    del state["encoder.layers.1.feed_forward.output_dense.bias"]
    torch.save(state, weights)
    with pytest.raises(PluginError, match=r"lacks 1 weight.*encoder.layers.1.feed_forward.output_dense.bias"):
        _load(folder)
    with pytest.raises(PluginError, match="lacks"):
        _load(_copy(folders["hubert"], tmp_path / "deeper", num_hidden_layers=3))
    with pytest.raises(PluginError, match="cannot be loaded"):
        _load(_copy(folders["hubert"], tmp_path / "wider", intermediate_size=64))


def test_what_cannot_be_loaded_is_said_to_be_so(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"model type 'bert', which .* runs: data2vec-audio, hubert"):
        _load(_copy(folders["hubert"], tmp_path / "bert", model_type="bert"))
    with pytest.raises(PluginError, match="has an adapter"):
        _load(_copy(folders["wav2vec2"], tmp_path / "adapter", add_adapter=True))
    broken = _copy(folders["hubert"], tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(PluginError, match="cannot be loaded"):
        _load(broken)
    (broken / "model.safetensors").unlink()
    with pytest.raises(PluginError, match="cannot be loaded"):
        _load(broken)
    (broken / "config.json").write_text("{")
    with pytest.raises(PluginError, match="is no JSON"):
        _load(broken)
    (broken / "config.json").unlink()
    with pytest.raises(PluginError, match=r"holds no config.json"):
        _load(broken)
    silent = _copy(folders["whisper"], tmp_path / "silent")
    (silent / "preprocessor_config.json").unlink()
    with pytest.raises(PluginError, match="feature extractor of"):
        _load(silent)
    noisy = _copy(folders["whisper"], tmp_path / "noisy")
    settings = json.loads((noisy / "preprocessor_config.json").read_text())
    (noisy / "preprocessor_config.json").write_text(json.dumps({**settings, "dither": 1e-5}))
    with pytest.raises(PluginError, match="adds random noise"):
        _load(noisy)


def test_code_that_comes_with_a_checkpoint_is_never_run(folders: dict[str, Path], tmp_path: Path) -> None:
    remote = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
    folder = _copy(folders["hubert"], tmp_path / "remote", auto_map=remote)
    canary = tmp_path / "canary"
    (folder / "code.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    assert _load(folder).weights_sha  # transformers' own class is taken
    assert not canary.exists()


@pytest.mark.parametrize(
    "name", ["./missing", "/missing/folder", "~/missing", "a/b/c", "missing/", "x/model.pt", "", "missing"]
)
def test_a_path_that_is_not_there_is_not_taken_for_a_hub_id(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="there is no folder"):
        huggingface.load(Options(checkpoint=name), "cpu")


def test_a_file_and_a_revision_of_a_folder_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="is a file, not a folder"):
        _load(folders["hubert"] / "model.safetensors")
    with pytest.raises(UsageError, match="with the local folder"):
        _load(folders["hubert"], revision="main")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache in an empty folder, and a hub that nobody answers for."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "hub"


def test_a_hub_id_is_read_from_the_cache_where_the_hub_is_out_of_reach(folders: dict[str, Path], hub: Path) -> None:
    with pytest.raises(PluginError, match=r"'owner/tiny' is no local folder, and the hub gave no such checkpoint"):
        huggingface.load(Options(checkpoint="owner/tiny"), "cpu")
    repository = hub / "models--owner--tiny"
    shutil.copytree(folders["hubert"], repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    found = huggingface.load(Options(checkpoint="owner/tiny"), "cpu")
    assert found.weights_sha == _load(folders["hubert"]).weights_sha
    with pytest.raises(PluginError, match="at revision 'v2'"):
        huggingface.load(Options(checkpoint="owner/tiny", revision="v2"), "cpu")


@pytest.mark.parametrize("pickled", [False, True])
def test_a_local_folder_never_touches_the_network(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pickled: bool
) -> None:
    folder = _copy(folders["hubert"], tmp_path / "copy")
    if pickled:
        _as_pickle(folder)
    asked: list[str] = []
    monkeypatch.setattr(socket.socket, "connect", lambda *_: asked.append("connect"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: asked.append("look up"))
    _load(folder)
    assert asked == []


def test_without_transformers_the_extra_is_named(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match="transformers, which is not installed") as caught:
        _load(folders["hubert"])
    assert "superbench[hf]" in caught.value.hint
