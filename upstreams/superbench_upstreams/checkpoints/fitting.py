"""Hold a file's tensors against the encoder they are for: none missing, none too many, each of its shape and finite."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from superbench.errors import NumericalError, PluginError
from superbench_upstreams.checkpoints.names import Table, belongs, ours
from superbench_upstreams.checkpoints.wording import listed, shown
from superbench_upstreams.encoder import Encoder, EncoderConfig

DEEPEST, WIDEST, MOST_CONVOLUTIONS = 1000, 2**16, 64  # a file that states more is damaged
MOST_NAMED = 5  # wrong values that an error tells
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def fit(
    tensors: Mapping[str, Any],
    config: EncoderConfig,
    table: Table,
    *,
    path: Path,
    dropped: Collection[str] = (),
    given: Mapping[str, Tensor] | None = None,
    hint: str = "",
) -> dict[str, Tensor]:
    """Return the state of `Encoder(config)` in float32 from tensors under a file's own names.

    `dropped`: parts that encoders of this kind carry and nobody needs here. `given`: tensors, under our names, that
    stand where the file has none. Raises `PluginError` where the tensors are not those of the encoder.
    """
    found: dict[str, Tensor] = {}
    unexpected = []
    for name, tensor in tensors.items():
        part = ours(name, table)
        if part is not None and part not in found and isinstance(tensor, Tensor):
            found[part] = tensor
        elif not belongs(name, dropped):
            unexpected.append(name)
    return verify({**(given or {}), **found}, config, path=path, unexpected=unexpected, hint=hint)


def verify(
    found: Mapping[str, Tensor],
    config: EncoderConfig,
    *,
    path: Path,
    unexpected: Sequence[str] = (),
    hint: str = "",
) -> dict[str, Tensor]:
    """Return tensors under our own names, in float32, where they are exactly the state of `Encoder(config)`."""
    shapes = expected(config, path)
    for name in found.keys() & shapes.keys():
        _require_numbers(found[name], name, path)
    troubles = {
        "unexpected": [*unexpected, *(name for name in found if name not in shapes)],
        "missing": [name for name in shapes if name not in found],
        "of another shape": [
            f"{name} {list(found[name].shape)}, not {list(shape)}"
            for name, shape in shapes.items()
            if name in found and found[name].shape != shape
        ],
    }
    if any(troubles.values()):
        said = [f"{len(names)} {kind}: {listed(names)}" for kind, names in troubles.items() if names]
        raise PluginError(
            f"{path}: its tensors are not those of the encoder that it describes; {'; '.join(said)}",
            hint or "is it a checkpoint as its makers published it, of a kind this upstream reads?",
        )
    return {name: number(found[name], name, path) for name in shapes}


def number(tensor: Any, name: str, path: Path) -> Tensor:
    """A tensor in float32; raises `NumericalError` where it holds a NaN or an infinity.

    Raises `PluginError` where it is no tensor of floating-point numbers that are all there, one by one.
    """
    _require_numbers(tensor, name, path)
    numbers: Tensor = tensor.detach().to(torch.float32)
    if not bool(torch.isfinite(numbers).all()):
        raise NumericalError(
            f"{path}: {name} holds a NaN or an infinity",
            "the training went astray, or the file is damaged: get another",
        )
    return numbers


def _require_numbers(tensor: Any, name: str, path: Path) -> None:
    if not isinstance(tensor, Tensor):
        raise PluginError(f"{path}: {name} is no tensor", "download or copy the file again")
    wrong = ""
    if tensor.is_quantized:
        wrong = "quantised"
    elif tensor.is_nested or tensor.layout is not torch.strided:
        wrong = "nested" if tensor.is_nested else f"sparse ({tensor.layout})"
    elif tensor.is_meta:
        wrong = "without its numbers (on the device meta)"
    elif tensor.dtype not in FLOATS:
        wrong = f"of {tensor.dtype}"
    elif tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        wrong = f"said to have {tensor.numel()} numbers, more than the file holds of it,"
    if wrong:
        raise PluginError(
            f"{path}: {name} is {wrong} where a plain tensor of floating-point numbers must be",
            "get the checkpoint as its makers published it: weights in float32, float16, bfloat16 or float64",
        )


def expected(config: EncoderConfig, path: Path) -> dict[str, torch.Size]:
    """The names and shapes of an encoder's state, without its memory; raises `PluginError` where there is no such one.

    Whatever a configuration states passes through here, so that no number of it can surprise later.
    """
    wrong = _wrong_values(config)
    if wrong:
        raise PluginError(
            f"{path}: no encoder is of the sizes that it states: {'; '.join(wrong[:MOST_NAMED])}",
            "download or copy it again, or correct its configuration",
        )
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in Encoder(config).state_dict().items()}


def _wrong_values(config: EncoderConfig) -> list[str]:
    """What of a configuration lies outside its bounds, each with its value and where it must be."""
    sizes = {
        "width": (config.width, WIDEST),
        "layers": (config.layers, DEEPEST),
        "heads": (config.heads, WIDEST),
        "feed-forward width": (config.ffn_width, WIDEST),
        "positional taps": (config.position_taps, WIDEST),
        "positional groups": (config.position_groups, WIDEST),
        "positional depth": (config.position_depth, DEEPEST),
        "convolutions": (len(config.conv_layers), MOST_CONVOLUTIONS),
    }
    for i, layer in enumerate(config.conv_layers[:MOST_CONVOLUTIONS]):
        for kind, size in zip(("channels", "kernel", "stride"), layer, strict=True):
            sizes[f"{kind} of convolution {i}"] = (size, WIDEST)
    if config.relative_buckets:
        sizes["relative buckets"] = (config.relative_buckets, WIDEST)
        sizes["relative distance"] = (config.relative_distance, WIDEST)
    wrong = [f"{key} {shown(size)}, not 1 to {most}" for key, (size, most) in sizes.items() if not 1 <= size <= most]
    if not wrong:
        wrong += [
            f"width {config.width}, which {count} {key} do not divide"
            for key, count in (("heads", config.heads), ("positional groups", config.position_groups))
            if config.width % count
        ]
        wrong += _wrong_buckets(config)
    rates = ("input_dropout", "dropout", "attention_dropout", "activation_dropout", "layerdrop")
    wrong += [
        f"{key} {shown(getattr(config, key))}, not in [0, 1)" for key in rates if not 0 <= getattr(config, key) < 1
    ]
    if not 0 <= config.conv_grad_scale <= 10:
        wrong.append(f"gradient scale {shown(config.conv_grad_scale)} of the convolutions, not in [0, 10]")
    tiny = {"normalize_eps": config.normalize_eps, "norm_eps": config.norm_eps}
    return wrong + [
        f"{key} {shown(eps)}, not above 0 and finite" for key, eps in tiny.items() if not 0 < eps <= sys.float_info.max
    ]


def _wrong_buckets(config: EncoderConfig) -> list[str]:
    """Half of the buckets are for each direction, half of those for distances one by one, the others beyond."""
    buckets, distance = config.relative_buckets, config.relative_distance
    if buckets and (buckets % 2 or buckets < 4):
        return [f"{buckets} relative buckets, not 0 or an even number from 4"]
    if buckets and distance <= buckets // 4:
        return [f"relative distance {distance}, not above a quarter of its {buckets} buckets"]
    return []
