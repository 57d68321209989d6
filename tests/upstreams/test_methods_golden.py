"""Every method gives what its reference implementation computes, from each of its files, in any batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from superbench_upstreams import data2vec, dinosr, hubert, rspin, spin, wav2vec2, wavlm
from superbench_upstreams.checkpoints import read_checkpoint
from superbench_upstreams.clustered import Clustered
from superbench_upstreams.frozen import FrozenEncoder

Golden = Callable[[str], dict[str, NDArray[np.float64]]]
LIMITS = {torch.float32: 2e-5, torch.float64: 1e-10}
FILES = {
    "fairseq_hubert_base": (hubert, ("checkpoint.pt", "checkpoint_s3prl.pt")),
    "fairseq_hubert_large": (hubert, ("checkpoint.pt", "checkpoint_s3prl.pt")),
    "fairseq_wav2vec2_base": (wav2vec2, ("checkpoint.pt", "checkpoint_s3prl.pt")),
    "fairseq_data2vec": (data2vec, ("checkpoint.pt",)),
    "fairseq_dinosr": (dinosr, ("checkpoint.pt",)),
    "wavlm_base": (wavlm, ("checkpoint.pt",)),
    **{f"hf_hubert_{kind}": (hubert, ("",)) for kind in ("group_post", "group_stable", "layer_post")},
    **{f"hf_wav2vec2_{kind}": (wav2vec2, ("",)) for kind in ("group_post", "group_stable", "layer_post")},
    **{f"hf_wavlm_{kind}": (wavlm, ("",)) for kind in ("group_post", "layer_post")},
    "hf_data2vec": (data2vec, ("",)),
}
CASES = [(name, file) for name, (_, files) in FILES.items() for file in files]


@pytest.fixture(scope="session")
def waves(shared: Path) -> list[Tensor]:
    found = np.load(shared / "golden" / "waves.npz")
    return [torch.from_numpy(found[name]) for name in ("wav_a", "wav_b")]


@pytest.fixture(scope="session")
def golden(shared: Path) -> Golden:
    return lambda name: dict(np.load(shared / "golden" / name / "features.npz"))


def differences(upstream: FrozenEncoder, waves: list[Tensor], expected: list[NDArray[np.float64]]) -> float:
    """The largest difference from `expected`, one [L, T, D] per wave, with the waves alone and in one batch."""
    found = [upstream([waves[0]])[0], upstream([waves[1]])[0], *upstream(waves), *upstream([*waves[::-1], waves[0]])]
    worst = 0.0
    for layers, i in zip(found, (0, 1, 0, 1, 1, 0, 0), strict=True):
        ours = torch.stack(layers.tensors).double().numpy()
        assert ours.shape == expected[i].shape
        worst = max(worst, float(np.abs(ours - expected[i]).max()))
    return worst


def listed(features: dict[str, NDArray[np.float64]], letter: str) -> NDArray[np.float64]:
    """The list of s3prl's wrapper, [L + 1, T, D]: the last entry is the encoder's output."""
    if f"{letter}_readme_layers64" in features:
        states, last = features[f"{letter}_readme_layers64"], features[f"{letter}_final64"]
    else:
        states = features[f"{letter}_hidden64"]
        last = features.get(f"{letter}_last64", states[-1])
    return np.stack([*states[:-1, 0], last[0]])


@pytest.mark.parametrize(("name", "file"), CASES)
@pytest.mark.parametrize("dtype", LIMITS)
def test_layers_are_the_reference_s(
    shared: Path, golden: Golden, waves: list[Tensor], name: str, file: str, dtype: torch.dtype
) -> None:
    module, _ = FILES[name]
    # As their READMEs say: the waves of group-norm models of transformers stay as they are, the others are normalised.
    normalize = "auto" if file else "false" if "_group_" in name else "true"
    options = {"checkpoint": str(shared / "golden" / name / file), "normalize": normalize}
    upstream = module.load(module.SPEC.options(**options), "cpu").astype(dtype)
    features = golden(name)
    expected = [listed(features, letter) for letter in "ab"]
    assert differences(upstream, [w.to(dtype) for w in waves], expected) < LIMITS[dtype]
    if "a_ffn64" in features:
        (layers,) = upstream.tap("ffn")([waves[0].to(dtype)])
        assert np.abs(torch.stack(layers.tensors).double().numpy() - features["a_ffn64"][:, 0]).max() < LIMITS[dtype]
    for key in ("a_proj64", "a_conv64"):
        if key in features:
            (layers,) = upstream.tap("projected")([waves[0].to(dtype)])
            assert np.abs(layers.tensors[0].double().numpy() - features[key][0]).max() < LIMITS[dtype]


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("module", [spin, rspin])
def test_spin_s_layers_logits_and_codes_are_the_reference_s(
    shared: Path, golden: Golden, waves: list[Tensor], module: object, dtype: torch.dtype
) -> None:
    folder = shared / "golden"
    options: spin.BasedOptions | rspin.ConfiguredOptions
    if module is spin:
        base = str(folder / "fairseq_hubert_base" / "checkpoint_s3prl.pt")
        options = spin.BasedOptions(checkpoint=str(folder / "spin_hubert" / "checkpoint.ckpt"), base=base)
        upstream, features = spin.load(options, "cpu"), golden("spin_hubert")
    else:
        config = str(folder / "rspin_wavlm" / "encoder_config.json")
        options = rspin.ConfiguredOptions(checkpoint=str(folder / "rspin_wavlm" / "checkpoint.pt"), config=config)
        upstream, features = rspin.load(options, "cpu"), golden("rspin_wavlm")
    upstream.astype(dtype)
    sounds = [w.to(dtype) for w in waves]
    limit = LIMITS[dtype]
    assert differences(upstream, sounds, [features[f"{x}_hidden64"][:, 0] for x in "ab"]) < limit
    # similarities are divided by a temperature of 0.1: ten times the difference
    assert differences(upstream.tap("logits"), sounds, [features[f"{x}_logits64"] for x in "ab"]) < 10 * limit
    assert differences(upstream.tap("codes"), sounds, [features[f"{x}_codes"][..., None] for x in "ab"]) == 0
    if module is spin:
        expected = [features[f"{x}_disentangled64"] for x in "ab"]
        assert differences(upstream.tap("disentangled"), sounds, expected) < limit


def test_dinosr_assigns_codes_as_its_training_does(shared: Path) -> None:
    folder = shared / "golden" / "dinosr_train"
    expected = np.load(folder / "golden.npz")
    checkpoint = read_checkpoint(str(folder / "checkpoint.pt"), family="dinosr")
    method = Clustered(checkpoint).double().eval()
    for k in range(2):
        method.sums[k] = torch.from_numpy(expected[f"codebook{k}_before"])
        method.counts[k] = torch.from_numpy(expected[f"cnts{k}_before"])
    source = torch.from_numpy(expected["source"]).double()  # normalised already
    mask = torch.from_numpy(expected["mask"]).bool()
    with torch.inference_mode():
        method.encoder.config = replace(method.config, normalize=False)
        encoded = method.encoder(list(source), layers=0)
        targets, codes = method.targets(encoded), method.codes(encoded)
    for k in range(2):
        assert np.abs(targets[k].numpy() - expected[f"target{k}"]).max() < 1e-10
        assert np.array_equal(codes[..., k][mask].numpy(), expected[f"codes{k}"])
