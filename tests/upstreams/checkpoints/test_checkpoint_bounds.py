"""Whatever a file states lies within bounds, or is named in a short message before anything is made of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign import GATED, fairseq_names, random_state, small, wavlm_settings
from torch import Tensor

from superbench.errors import PluginError
from superbench_upstreams.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from superbench_upstreams.checkpoints.fitting import expected, number
from superbench_upstreams.checkpoints.stated import Stated
from superbench_upstreams.checkpoints.wording import listed, shown

PATH = Path("a.pt")


def _deep(value: Any, levels: int, times: int = 1) -> Any:
    for _ in range(levels):
        value = [value] * times
    return value


@pytest.mark.parametrize(
    "value",
    [
        "[(1,1,1)]" + "*64" * 20,
        "[[(1,1,1)]*64]*64*64",
        "[(1,1,1)]*65",
        "[(1,1,1)]*40 + [(1,1,1)]*40",
        "[(1,1,1)]*0",
        "[(1,1,1)]*" + "9" * 4000,
        "(" * 4000 + "1" + ")" * 4000,
        "-" * 4000 + "1",
        "[(1,1,1)]" + " " * 1_000_000,
        [[1, 1, 1.5]],
        [[1, 1, math.inf]],
        [["8", 1, 1]],
        [[1, 1, True]],
        _deep(1, 100_000),
        _deep(1, 60, 2),
        [[1, 1, 1]] * 65,
        10**10_000,
        "x" * 1_000_000,
    ],
    ids=range(18),
)
def test_convolutions_that_are_none(value: Any) -> None:
    stated = Stated({"conv": value}, PATH)
    with pytest.raises(PluginError, match=r"^a\.pt states conv: ") as caught:
        stated.conv_layers("conv", "")
    assert len(caught.value.message) < 300
    with pytest.raises(PluginError, match=r"^a\.pt states conv: .* does not compute") as caught:
        stated.require("conv", "gelu")
    assert len(caught.value.message) < 300


def test_as_many_convolutions_as_may_be() -> None:
    assert Stated({"conv": "2*[(8,3,2)]*32"}, PATH).conv_layers("conv", "") == ((8, 3, 2),) * 64


def test_a_number_beyond_all_floats() -> None:
    with pytest.raises(PluginError, match=r"dropout: 1000.*, where a number must be"):
        Stated({"dropout": 10**400}, PATH).number("dropout", 0.0)


def test_values_are_shown_shortly() -> None:
    assert [shown(v) for v in ("a", 1, None, True, 2.5, [1, "x"])] == ["'a'", "1", "None", "True", "2.5", "[1, 'x']"]
    assert shown(torch.ones(3)) == "a Tensor"
    assert len(shown(_deep(1, 60, 100))) <= 120
    assert listed(["b", "a" * 1000, "c"]) == "a" * 117 + "..., b, c"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        *(
            ({key: value}, f"{name} {value}, not 1 to {most}")
            for key, name, most in (
                ("width", "width", 65536),
                ("layers", "layers", 1000),
                ("heads", "heads", 65536),
                ("ffn_width", "feed-forward width", 65536),
                ("position_taps", "positional taps", 65536),
                ("position_groups", "positional groups", 65536),
                ("position_depth", "positional depth", 1000),
            )
            for value in (0, -1, most + 1, 10**30)
        ),
        *(
            ({"conv_layers": ((8, 10, 5), layer)}, f"{kind} of convolution 1 {size}, not 1 to 65536")
            for kind, size, layer in (
                ("channels", 0, (0, 3, 2)),
                ("kernel", 65537, (8, 65537, 2)),
                ("stride", 2**62, (8, 3, 2**62)),
            )
        ),
        ({"norm_eps": 10**5000}, "norm_eps a number of thousands of digits, not above 0 and finite"),
        ({"conv_layers": ()}, "convolutions 0, not 1 to 64"),
        ({"heads": 3}, "width 16, which 3 heads do not divide"),
        ({"position_groups": 5}, "width 16, which 5 positional groups do not divide"),
        ({"relative_buckets": -2}, "relative buckets -2, not 1 to 65536"),
        ({"relative_buckets": 2}, "2 relative buckets, not 0 or an even number from 4"),
        ({"relative_buckets": 7}, "7 relative buckets, not 0 or an even number from 4"),
        ({"relative_buckets": 8, "relative_distance": 2}, "relative distance 2, not above a quarter of its 8 buckets"),
        ({"relative_buckets": 8, "relative_distance": 2**17}, "relative distance 131072, not 1 to 65536"),
        *(
            ({key: value}, f"{key} {value}, not in [0, 1)")
            for key in ("input_dropout", "dropout", "attention_dropout", "activation_dropout", "layerdrop")
            for value in (-0.1, 1.0, math.nan, math.inf)
        ),
        *(
            ({"conv_grad_scale": v}, f"gradient scale {v} of the convolutions, not in [0, 10]")
            for v in (-1.0, 11.0, math.nan)
        ),
        *(
            ({k: v}, f"{k} {v}, not above 0 and finite")
            for k in ("norm_eps", "normalize_eps")
            for v in (0.0, math.inf, math.nan)
        ),
    ],
)
def test_sizes_and_rates_have_bounds(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(PluginError) as caught:
        expected(small(**changes), PATH)
    assert caught.value.message == f"a.pt: no encoder is of the sizes that it states: {said}"


@pytest.mark.parametrize(
    "changes",
    [
        {"relative_buckets": 4, "relative_distance": 2},
        {"ffn_width": 65536},
        {"layerdrop": 0.99, "conv_grad_scale": 0.0},
        {"conv_grad_scale": 10.0},
    ],
)
def test_bounds_are_within(changes: dict[str, Any]) -> None:
    assert expected(small(**changes), PATH)["layers.0.ffn_in.weight"] == (changes.get("ffn_width", 24), 16)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.ones(2, 2).to_sparse(), "sparse"),
        (torch.ones(2, dtype=torch.complex64), "of torch.complex64"),
        (torch.ones(2, dtype=torch.int64), "of torch.int64"),
        (torch.ones(2, dtype=torch.bool), "of torch.bool"),
        (torch.empty(2, device="meta"), "without its numbers"),
        (torch.ones(1).expand(10**12), "said to have 1000000000000 numbers"),
        ([1.0], "no tensor"),
    ],
)
def test_tensors_that_are_no_plain_numbers(tensor: Any, said: str) -> None:
    with pytest.raises(PluginError, match=rf"^a\.pt: b is {said}"):
        number(tensor, "b", PATH)


@pytest.mark.filterwarnings("ignore:.*quantize")  # torch means to drop these
def test_quantised_tensors() -> None:
    with pytest.raises(PluginError, match=r"^a\.pt: b is quantised"):
        number(torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "b", PATH)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(dtype: torch.dtype) -> None:
    found = number(torch.tensor([1.5, -2.0], dtype=dtype), "b", PATH)
    assert found.dtype == torch.float32
    assert found.tolist() == [1.5, -2.0]


def test_a_file_with_a_tensor_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    config = small(**GATED)
    tensors = fairseq_names(random_state(config), config)
    tensors["encoder.layers.1.fc1.weight"] = tensors["encoder.layers.1.fc1.weight"].to_sparse()
    torch.save({"cfg": wavlm_settings(config), "model": tensors}, tmp_path / "a.pt")
    with pytest.raises(PluginError, match=r"a\.pt: layers\.1\.ffn_in\.weight is sparse"):
        read_checkpoint(str(tmp_path / "a.pt"), family="wavlm")


def _own(folder: Path, family: str, *, extras: dict[str, Tensor], settings: dict[str, Any]) -> str:
    config = small(**(GATED if family == "wavlm" else {}))
    write_checkpoint(
        folder,
        Checkpoint(
            family=family,
            format="superbench",
            config=config,
            weights=random_state(config),
            extras=extras,
            settings=settings,
        ),
    )
    return str(folder)


@pytest.mark.parametrize("method", ["hubert", "wav2vec2", "wavlm"])
def test_an_encoder_alone_has_nothing_beside_it(tmp_path: Path, method: str) -> None:
    head = {"head.weight": torch.ones(1)}
    for i, (extras, settings, said) in enumerate(
        [(head, {}, "extras.head.weight"), ({}, {"temperature": 0.1}, "settings.temperature")]
    ):
        path = _own(tmp_path / str(i), method, extras=extras, settings=settings)
        with pytest.raises(PluginError, match=f"{i} is a {method} checkpoint, .* holds also {said}\n"):
            read_checkpoint(path, family=method)


def test_the_settings_of_an_rspin_encoder(tmp_path: Path) -> None:
    config = tmp_path / "encoder.json"
    torch.save({"cfg": {"codebook_dim": 4, "codebook_size": 4}, "state_dict": {}}, tmp_path / "a.pt")
    for text, said in (
        ('{"encoder_layers": 2}', "holds no settings of WavLM: it does not say encoder_embed_dim\n"),
        ("{}", "holds no settings of WavLM: it does not say encoder_embed_dim and encoder_layers\n"),
        ("[" * 100_000, "is no JSON"),
    ):
        config.write_text(text)
        with pytest.raises(PluginError, match=rf"encoder\.json {said}"):
            read_checkpoint(str(tmp_path / "a.pt"), family="rspin", config=str(config))
    for name in ("~nobody_at_all/x.json", "a" * 5000):
        with pytest.raises(PluginError, match="cannot be read") as caught:
            read_checkpoint(str(tmp_path / "a.pt"), family="rspin", config=name)
        assert len(caught.value.message) < 300
