"""The published USAD runs by the code that comes with it, only where told to, and every weight of it is read."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from superbench import torchaudio_loader
from superbench.contracts import Provenance
from superbench.errors import DataError, PluginError, UsageError
from superbench.features.extraction import LoadedUpstream, check_facts
from superbench.options import build_options
from superbench_upstreams import usad


def _noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def _load(checkpoint: object, **options: object) -> Any:
    given = build_options(usad.Options, {"checkpoint": str(checkpoint), **options}, who="upstream usad")
    return usad.SPEC.load(given, "cpu")


CONFIGURATION = """
from transformers import PretrainedConfig

class USADConfig(PretrainedConfig):
    model_type = "usad"

    def __init__(self, encoder_dim=6, **kwargs):
        self.encoder_dim = encoder_dim
        super().__init__(**kwargs)
"""
# In place of a mel frame's features stand the mean of its window and a number from a table that is no weight.
MODELING = """
import torch
from transformers import PreTrainedModel
from .configuration_usad import USADConfig

open({canary!r}, "w").close()

class USADModel(PreTrainedModel):
    config_class = USADConfig

    def __init__(self, config):
        super().__init__(config)
        self.scale = torch.nn.Parameter(torch.rand(config.encoder_dim))
        self.register_buffer("table", torch.arange(config.encoder_dim).float(), persistent=False)
        self.post_init()

    def forward(self, wavs):
        assert wavs.ndim == 2 and not self.training
        mel = wavs.unfold(1, 400, 160).mean(-1)
        x = mel[:, {every}, None] * self.scale + self.table
        return {{"x": 3 * x, "mel": mel, "hidden_states": [x, 2 * x, 3 * x], "ffn": [x - 1, x + 1]}}
"""
SCALE = torch.tensor([1.0, -2.0, 3.0, 0.5, 0.0, 4.0])


@pytest.fixture(scope="module")
def _modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where transformers copies a checkpoint's code to, in a folder of ours."""
    torchaudio_loader.load()  # before anything imports transformers
    pytest.importorskip("transformers", reason="transformers (the extra 'hf') is not installed")
    from transformers import dynamic_module_utils

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        patch.setattr(sys, "path", [*sys.path])
        yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers_modules"]:
        del sys.modules[name]


@pytest.fixture
def published(tmp_path: Path, _modules: None) -> Path:
    """A tiny model that comes with its own code, and whose code leaves a mark when it is run."""
    return _write(tmp_path, every="::2")


def _write(tmp_path: Path, *, every: str) -> Path:
    from safetensors.torch import save_file

    folder = tmp_path / "usad"
    folder.mkdir()
    named = {"AutoConfig": "configuration_usad.USADConfig", "AutoModel": "modeling_usad.USADModel"}
    (folder / "config.json").write_text(json.dumps({"model_type": "usad", "encoder_dim": 6, "auto_map": named}))
    (folder / "configuration_usad.py").write_text(CONFIGURATION)
    (folder / "modeling_usad.py").write_text(MODELING.format(canary=str(tmp_path / "canary"), every=every))
    save_file({"scale": SCALE.clone()}, folder / "model.safetensors")
    return folder


def _frames(wave: torch.Tensor) -> torch.Tensor:
    """What the tiny model's first list entry is, cut to whole pairs of mel frames."""
    mel = wave.unfold(0, 400, 160).mean(-1)
    return (mel[::2, None] * SCALE + torch.arange(6.0))[: len(mel) // 2]


@pytest.mark.parametrize("pickled", [False, True])
def test_the_published_model_is_run_by_its_own_code(published: Path, tmp_path: Path, pickled: bool) -> None:
    if pickled:
        (published / "model.safetensors").unlink()
        torch.save({"scale": SCALE}, published / "pytorch_model.bin")
    state = torch.random.get_rng_state()
    upstream = _load(published, trust_remote_code="true")
    assert torch.equal(state, torch.random.get_rng_state())
    assert (tmp_path / "canary").exists()
    check_facts(LoadedUpstream(name="usad", upstream=upstream, provenance=Provenance(plugin="usad"), device="cpu"))
    waves = [_noise(16000, 1), _noise(720, 2), _noise(560, 3)]
    for tapped, expected in (
        (upstream, lambda x: [x, 2 * x, 3 * x]),
        (upstream.tap("ffn"), lambda x: [x - 1, x + 1]),
        (upstream.tap("ffn").tap("hidden"), lambda x: [x, 2 * x, 3 * x]),
    ):
        together = tapped(waves)
        assert tapped.exact_batches is True
        assert tapped.strides == (320,) * len(tapped.widths)
        for wave, layers in zip(waves, together, strict=True):
            frames = expected(_frames(wave))
            assert tapped.widths == (6,) * len(frames)
            assert len(layers.tensors) == len(frames)
            for x, y in zip(layers.tensors, frames, strict=True):
                assert x.shape[0] == tapped.num_frames(len(wave))
                torch.testing.assert_close(x, y, rtol=0, atol=1e-6)
    with pytest.raises(DataError, match="559 samples is too short"):
        upstream([_noise(559)])
    with pytest.raises(UsageError, match="no tap 'mel'"):
        upstream.tap("mel")


@pytest.mark.parametrize("told", [{}, {"trust_remote_code": "false"}])
def test_its_code_is_not_run_unless_told(published: Path, tmp_path: Path, told: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"would run .*modeling_usad\.USADModel") as caught:
        _load(published, **told)
    assert "trust_remote_code=true" in caught.value.hint
    assert str(published) in caught.value.message
    assert not (tmp_path / "canary").exists()
    with pytest.raises(UsageError, match="'MIT-SLS/USAD-Base' on the hub"):
        _load("MIT-SLS/USAD-Base", **told)


def test_a_hub_id_is_read_from_the_cache(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(PluginError, match="'owner/tiny' is no local folder, and the hub gave no such checkpoint"):
        _load("owner/tiny", trust_remote_code="true")
    repository = tmp_path / "hub" / "models--owner--tiny"
    shutil.copytree(published, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    (layers,) = _load("owner/tiny", trust_remote_code="true")([_noise(16000)])
    torch.testing.assert_close(layers.tensors[0], _frames(_noise(16000)), rtol=0, atol=1e-6)
    with pytest.raises(PluginError, match="at revision 'v2'"):
        _load("owner/tiny", trust_remote_code="true", revision="v2")


@pytest.mark.usefixtures("_modules")
def test_fewer_frames_than_the_rule_are_refused(tmp_path: Path) -> None:
    upstream = _load(_write(tmp_path, every="::3"), trust_remote_code="true")
    with pytest.raises(PluginError, match="gave 33 frames for 16000 samples, whose mel frames by two are 49"):
        upstream([_noise(16000)])


@pytest.mark.parametrize(
    ("weights", "wrong"),
    [({}, "scale"), ({"scale": SCALE, "more": SCALE}, "more"), ({"scale": SCALE[:3]}, "size mismatch for scale")],
)
def test_weights_that_are_not_the_models_are_refused(published: Path, weights: dict[str, Any], wrong: str) -> None:
    from safetensors.torch import save_file

    save_file({k: v.clone() for k, v in weights.items()}, published / "model.safetensors")
    with pytest.raises(PluginError, match=f"(?s)are not those of its model: .*{wrong}"):
        _load(published, trust_remote_code="true")


def test_broken_published_folders_are_refused(published: Path) -> None:
    (published / "model.safetensors").write_bytes(b"not at all")
    with pytest.raises(PluginError, match="holds no tensors"):
        _load(published, trust_remote_code="true")
    (published / "model.safetensors").unlink()
    with pytest.raises(PluginError, match="holds no weights"):
        _load(published, trust_remote_code="true")
    (published / "config.json").write_text('{"model_type": "hubert"}')
    with pytest.raises(PluginError, match="names no code of its own"):
        _load(published, trust_remote_code="true")
    (published / "config.json").write_text("{")
    with pytest.raises(PluginError, match="is no JSON"):
        _load(published, trust_remote_code="true")


def test_a_model_of_another_kind_is_refused(published: Path) -> None:
    _load(published, trust_remote_code="true")  # whose class must not be taken for the next one's
    code = (published / "modeling_usad.py").read_text()
    (published / "modeling_usad.py").write_text(code.replace('"hidden_states"', '"states"'))
    with pytest.raises(PluginError, match="gave no list 'hidden_states', but a dict of x, mel, states, ffn"):
        _load(published, trust_remote_code="true")
