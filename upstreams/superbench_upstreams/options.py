"""What the upstreams of the wav2vec 2.0 family can be told, and the modules that decide their features. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from superbench.plugin import Upstream, UpstreamSpec

COMPUTES = tuple(f"{__package__}.{room}" for room in ("convolution", "positions", "encoder", "frozen"))


@dataclass(frozen=True)
class EncoderOptions:
    """`checkpoint`: a file, a folder, or a name on the hub (`owner/name`, `hf://[datasets/]owner/name/file`).

    `normalize`: bring each wave to mean 0 and variance 1? "auto" is the checkpoint's word. `revision`: on the hub.
    `dtype`: bfloat16 is up to 1.8 times as fast where a CPU has it, and no longer exact. `compile`: run the
    transformer's layers through torch.compile; the last bits then depend on which shapes it has met before.
    """

    checkpoint: str
    normalize: Literal["auto", "true", "false"] = "auto"
    revision: str = ""
    dtype: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False


@dataclass(frozen=True)
class BasedOptions(EncoderOptions):
    """`base`: a checkpoint of the encoder that it was trained from, where its architecture is not the base one."""

    base: str = ""


@dataclass(frozen=True)
class ConfiguredOptions(EncoderOptions):
    """`config`: a JSON file with the encoder's architecture, in WavLM's own terms, where it is not WavLM Base."""

    config: str = ""


def encoder_spec(
    name: str,
    load: Callable[[Any, str], Upstream],
    summary: str,
    options: type[EncoderOptions] = EncoderOptions,
    *,
    room: str = "",
) -> UpstreamSpec:
    """The spec of an upstream that runs on the encoder of this wing; `room` is the module of what it adds to it."""
    sources = (*COMPUTES, f"{__package__}.{room}") if room else COMPUTES
    return UpstreamSpec(name=name, load=load, options=options, summary=summary, sources=sources)
