"""USAD students come back as they were saved, and nothing else is taken for one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from superbench.contracts import Provenance
from superbench.errors import IntegrityError, PluginError, UsageError
from superbench.features.extraction import LoadedUpstream, check_facts
from superbench.options import build_options
from superbench_upstreams import usad
from superbench_upstreams.checkpoints import own
from superbench_upstreams.usad_encoder import UsadConfig, UsadEncoder

TINY = {"width": 16, "layers": 3, "heads": 2, "ffn_expansion": 2, "channels": 4, "position_groups": 4}


def _noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def _encoder(**changes: Any) -> UsadEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UsadEncoder(UsadConfig(**{**TINY, **changes})).eval()


def _load(checkpoint: object, **options: object) -> Any:
    given = build_options(usad.Options, {"checkpoint": str(checkpoint), **options}, who="upstream usad")
    return usad.SPEC.load(given, "cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    usad.save(_encoder(), tmp_path / "student", origin={"recipe": "test"})
    return tmp_path / "student"


def test_what_is_saved_comes_back(folder: Path) -> None:
    waves = [_noise(8000, 1), _noise(3210, 2)]
    upstream = _load(folder)
    check_facts(LoadedUpstream(name="usad", upstream=upstream, provenance=Provenance(plugin="usad"), device="cpu"))
    with torch.no_grad():
        reference = _encoder().requires_grad_(False)
        reference.positions.fix()
        expected = reference(waves, taps=("states", "ffn"))
    for tapped, layers in ((upstream, expected.hidden), (upstream.tap("ffn"), expected.ffn)):
        assert (tapped.sample_rate, tapped.exact_batches) == (16000, True)
        assert (tapped.strides, tapped.widths) == ((320,) * len(layers), (16,) * len(layers))
        for i, found in enumerate(tapped(waves)):
            assert [tuple(x.shape) for x in found.tensors] == [(tapped.num_frames(len(waves[i])), 16)] * len(layers)
            assert all(torch.equal(x, y[i, : len(x)]) for x, y in zip(found.tensors, layers, strict=True))
            assert not any(x.requires_grad for x in found.tensors)
    assert upstream.taps == ("ffn",)
    assert torch.equal(upstream.tap("ffn").tap("hidden")(waves)[0].tensors[0], upstream(waves)[0].tensors[0])
    with pytest.raises(UsageError, match="no tap 'codes'"):
        upstream.tap("codes")
    assert own.read_folder(folder).origin == {"recipe": "test"}
    again = usad.open_encoder(folder)
    assert again.training
    assert all(p.requires_grad for p in again.parameters())


def test_it_computes_in_the_dtype_asked_for_and_leaves_the_waves_alone(folder: Path) -> None:
    waves = [_noise(8000, 1), _noise(3210, 2)]
    before = [wave.clone() for wave in waves]
    single, double = _load(folder), _load(folder)
    assert double.astype(torch.float64) is double
    for one, other in zip(single(waves), double(waves), strict=True):
        for x, y in zip(one.tensors, other.tensors, strict=True):
            assert (x.dtype, y.dtype) == (torch.float32, torch.float64)
            assert 0 < float((x - y).abs().max()) < 2e-5
    assert all(torch.equal(a, b) for a, b in zip(waves, before, strict=True))


def test_the_hash_is_of_what_decides_the_features(folder: Path, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    first = _load(folder).weights_sha
    assert torch.equal(state, torch.random.get_rng_state())
    usad.save(_encoder(dropout=0.5, layerdrop=0.3), tmp_path / "same", origin={})
    usad.save(_encoder(norm_first=False), tmp_path / "other_norm", origin={})
    moved = _encoder()
    with torch.no_grad():
        moved.norm.bias[0] += 1e-6
    usad.save(moved, tmp_path / "moved", origin={})
    assert [_load(tmp_path / name).weights_sha == first for name in ("same", "other_norm", "moved")] == [
        True,
        False,
        False,
    ]
    assert _load(folder).tap("ffn").weights_sha == first


def _rewritten(folder: Path, to: Path, *, family: str = "usad", drop: str = "", **changes: Any) -> Path:
    """A copy of a checkpoint, whole, with another config, settings, family or set of tensors."""
    found = own.read_folder(folder)
    config = {k: v for k, v in {**found.config, **changes.get("config", {})}.items() if k != drop}
    tensors = {k: v for k, v in {**found.tensors, **changes.get("tensors", {})}.items() if k != drop}
    own.write_folder(to, family=family, config=config, settings=changes.get("settings", {}), tensors=tensors, origin={})
    return to


@pytest.mark.parametrize(
    ("changes", "kind", "wrong"),
    [
        ({"family": "spin"}, PluginError, "of the family 'spin', not 'usad'"),
        ({"config": {"colour": 1}}, UsageError, "no option 'colour'"),
        ({"config": {"heads": "many"}}, UsageError, "'heads' is 'many'"),
        ({"config": {"heads": 5}}, UsageError, "no multiple of heads"),
        ({"drop": "position_width"}, PluginError, "lacks position_width"),
        ({"settings": {"temperature": 1}}, PluginError, "settings that no encoder of ours knows: temperature"),
        ({"drop": "norm.weight"}, PluginError, r"1 tensor\(s\) of .*: norm.weight"),
        ({"tensors": {"extra": torch.zeros(1)}}, PluginError, r"1 tensor\(s\) of .*: extra"),
        ({"config": {"channels": 8}}, PluginError, r"5 tensor\(s\) of .*: halving.first.bias, halving.first.weight"),
    ],
)
def test_a_checkpoint_that_is_not_what_it_says_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any], kind: type[Exception], wrong: str
) -> None:
    with pytest.raises(kind, match=wrong):
        _load(_rewritten(folder, tmp_path / "changed", **changes))


def test_wrong_folders_and_options_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PluginError, match=r"neither superbench\.json nor config\.json"):
        _load(tmp_path / "empty")
    with pytest.raises(UsageError, match="no folder"):
        _load(tmp_path / "missing")
    with pytest.raises(UsageError, match="is a file, not a folder"):
        _load(folder / "superbench.json")
    with pytest.raises(UsageError, match="with the local folder"):
        _load(folder, revision="main")
    with pytest.raises(UsageError, match="holds no code"):
        _load(folder, trust_remote_code="true")
    with pytest.raises(UsageError, match="trust_remote_code"):
        _load(folder, trust_remote_code="perhaps")
    with pytest.raises(UsageError, match="'checkpoint' is missing"):
        build_options(usad.Options, {}, who="upstream usad")
    with pytest.raises(UsageError, match="never written over"):
        usad.save(_encoder(), folder, origin={})
    (folder / "weights.safetensors").write_bytes(b"")
    with pytest.raises(IntegrityError):
        _load(folder)


def test_the_module_loads_nothing_heavy() -> None:
    program = (
        "import sys; from superbench_upstreams import usad\n"
        "print(sorted({'torch', 'torchaudio', 'numpy', 'transformers', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
