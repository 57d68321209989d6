"""A frozen encoder with random weights, loaded through the `huggingface` upstream; and the sounds it hears.

Shapes: a wave is [n]; frames of a batch are x_BLTD with lengths_B.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from superbench import torchaudio_loader
from superbench.api import load_upstream
from superbench.contracts import Layers, Utterance
from superbench.features.extraction import LoadedUpstream

RATE = 16000  # Hz


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The size of an encoder that is built like HuBERT."""

    convolution: int  # channels of its seven convolutions
    width: int
    layers: int  # of the transformer


SMALL = Shape(convolution=64, width=256, layers=4)
BASE = Shape(convolution=512, width=768, layers=12)  # HuBERT base


def random_encoder(folder: Path, shape: Shape) -> LoadedUpstream:
    """Write a checkpoint with random weights into `folder` and load it as a user would."""
    torchaudio_loader.load()  # before anything imports transformers
    import transformers

    config = transformers.HubertConfig(
        conv_dim=[shape.convolution] * 7,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.width // 64,
        intermediate_size=4 * shape.width,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.HubertModel(config).save_pretrained(folder)
    return load_upstream(f"huggingface:checkpoint={folder},normalize=false")


def operations(config: Any, samples: int) -> int:
    """Multiplications and additions that HuBERT's architecture states for one sound: two for each weight it meets."""
    found, inputs, frames = 0, 1, samples
    for channels, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        frames = (frames - kernel) // stride + 1
        found += frames * channels * inputs * kernel
        inputs = channels
    width = config.hidden_size
    found += frames * width * inputs  # projection
    found += frames * width * (width // config.num_conv_pos_embedding_groups) * config.num_conv_pos_embeddings
    of_a_layer = 4 * frames * width**2 + 2 * frames**2 * width + 2 * frames * width * config.intermediate_size
    return int(2 * (found + config.num_hidden_layers * of_a_layer))


def waves(count: int, seconds: float, shortest: float = 0.5) -> list[Tensor]:
    """Noise, each wave at its own loudness; lengths run from a part of `seconds`, the `shortest`, up to it."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.linspace(shortest, 1.0, count).mul(seconds * RATE).long().tolist()
    return [torch.randn(n, generator=generator) * 0.3 * (i + 1) / count for i, n in enumerate(lengths)]


def utterances(sounds: Sequence[Tensor]) -> list[Utterance]:
    """Sounds in memory as the one pass wants to have them named: by content."""
    return [
        Utterance(
            id=f"wave{i}",
            path=Path(f"wave{i}.wav"),
            start=0,
            stop=len(wave),
            native_rate=RATE,
            samples=len(wave),
            rate=RATE,
            content=hashlib.sha256(wave.numpy().tobytes()).hexdigest(),
            split="train",
            fold="",
            speaker="",
            labels={},
            reference="",
        )
        for i, wave in enumerate(sounds)
    ]


def padded(found: Sequence[Layers]) -> tuple[Tensor, Tensor]:
    """Layers of some waves as one batch: frames x_BLTD, padded with zeros, and lengths_B."""
    by_time = [torch.stack(layers.tensors, dim=1) for layers in found]  # [T, L, D] each
    lengths = torch.tensor([len(x) for x in by_time])
    return nn.utils.rnn.pad_sequence(by_time, batch_first=True).transpose(1, 2).contiguous(), lengths
