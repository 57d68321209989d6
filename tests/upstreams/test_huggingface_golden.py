"""The `huggingface` upstream gives transformers' own features of small models, frozen in golden files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from superbench import torchaudio_loader
from superbench_upstreams import huggingface

torchaudio_loader.load()  # before anything imports transformers
pytest.importorskip("transformers", reason="transformers (the extra 'hf') is not installed")

GOLDEN = (
    "hf_data2vec",
    "hf_hubert_group_post",
    "hf_hubert_group_stable",
    "hf_hubert_layer_post",
    "hf_wav2vec2_group_post",
    "hf_wav2vec2_group_stable",
    "hf_wav2vec2_layer_post",
    "hf_wavlm_group_post",
    "hf_wavlm_layer_post",
)


@pytest.mark.skipif("SUPERBENCH_SHARED" not in os.environ, reason="SUPERBENCH_SHARED: golden features not at hand")
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_features_of_transformers(name: str) -> None:
    golden = Path(os.environ["SUPERBENCH_SHARED"]) / "golden"
    waves, features = np.load(golden / "waves.npz"), np.load(golden / name / "features.npz")
    # As their READMEs say: the waves of group-norm models stay as they are, those of the others are normalised.
    normalize = "false" if "_group_" in name else "true"
    upstream = huggingface.load(huggingface.Options(checkpoint=str(golden / name), normalize=normalize), "cpu")
    for dtype, tolerance in ((torch.float32, 2e-5), (torch.float64, 1e-10)):
        upstream.astype(dtype)
        for letter in "ab":
            (layers,) = upstream([torch.from_numpy(waves[f"wav_{letter}"])])
            expected = [*features[f"{letter}_hidden64"][:-1, 0], features[f"{letter}_last64"][0]]
            assert len(layers.tensors) == len(expected) == 4
            for ours, theirs in zip(layers.tensors, expected, strict=True):
                assert np.abs(ours.numpy() - theirs).max() < tolerance
