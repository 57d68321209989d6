"""Every variant of a family, saved by transformers, gives here what transformers computes of it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_encoder import waves
from torch import nn

from superbench import torchaudio_loader
from superbench_upstreams import data2vec, hubert, wav2vec2, wavlm

torchaudio_loader.load()  # before anything imports transformers
transformers: Any = pytest.importorskip("transformers", reason="transformers (the extra 'hf') is not installed")

CLASSES = {hubert: "Hubert", wav2vec2: "Wav2Vec2", wavlm: "WavLM", data2vec: "Data2VecAudio"}
SIZES = {
    "conv_dim": [32] * 7,
    "hidden_size": 32,  # as wide as the convolutions: transformers projects all the same
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "layer_norm_eps": 1e-3,
}
DEEP = {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19}
VARIANTS = [(m, v) for m in (hubert, wav2vec2, wavlm) for v in itertools.product(("group", "layer"), (0, 1), (0, 1))]
VARIANTS += [(data2vec, ("layer", 0, bias)) for bias in (0, 1)]


@pytest.mark.parametrize(("module", "variant"), VARIANTS)
def test_features_are_those_of_transformers(tmp_path: Path, module: Any, variant: tuple[str, int, int]) -> None:
    norm, stable, bias = variant
    settings = {**SIZES, "conv_bias": bool(bias), "feat_extract_norm": norm, "do_stable_layer_norm": bool(stable)}
    settings |= DEEP if module is data2vec else {}
    config = getattr(transformers, f"{CLASSES[module]}Config")(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{CLASSES[module]}Model")(config)
        for parameter in model.parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter, 0.5, 0.3)
    model.save_pretrained(tmp_path)
    normalize = norm == "layer"
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": normalize}))
    upstream = module.load(module.SPEC.options(checkpoint=str(tmp_path)), "cpu").astype(torch.float64)
    reference = model.double().eval()
    sounds = waves(9000, 4321, 400)
    for wave, layers in zip(sounds, upstream(sounds), strict=True):
        fed = (wave - wave.mean()) / (wave.var(unbiased=False) + 1e-7).sqrt() if normalize else wave
        with torch.inference_mode():
            output = reference(fed[None], output_hidden_states=True)
        expected = [*output.hidden_states[:-1], output.last_hidden_state]  # the last one is not normed in the list
        assert len(layers.tensors) == len(expected) == 4
        for ours, theirs in zip(layers.tensors, expected, strict=True):
            torch.testing.assert_close(ours, theirs[0], rtol=0, atol=1e-10)
