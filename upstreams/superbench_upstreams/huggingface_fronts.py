"""How sound goes into each family of transformers' speech encoders, and how many frames come out of each layer.

Three kinds (transformers 5.23.0, measured in reference/LIBRARIES.md section 9): encoders of the waveform, the SEW
encoders, whose layers run at half the frame rate of their last output, and encoders of mel features, which the
checkpoint's own feature extractor computes in float32 on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superbench.errors import PluginError

if TYPE_CHECKING:
    import torch

NORM_EPS = 1e-7  # transformers' Wav2Vec2FeatureExtractor; fairseq and s3prl have 1e-5
KALDI_WINDOW, KALDI_SHIFT = 400, 160  # samples, of the filter banks of wav2vec2-bert and speech_to_text
WHISPER_SUBSAMPLING = 2  # mel frames per encoder frame: the stride of Whisper's second convolution


@dataclass(frozen=True, kw_only=True)
class Front:
    """What one checkpoint is fed and what it gives back; `strides`, `widths` and `frames` have one entry per layer."""

    sample_rate: int  # Hz
    strides: tuple[int, ...]  # samples between frames
    widths: tuple[int, ...]
    frames: Callable[[int], tuple[int, ...]]  # samples -> frames
    prepare: Callable[[torch.Tensor], torch.Tensor]  # wave [n] -> model input [1, ...]
    max_samples: int | None = None
    fills_window: bool = False  # every sound becomes `max_samples` long: frames past `frames` are of silence


def waveform(config: Any, sample_rate: int, normalize: bool) -> Front:
    """The wav2vec 2.0 family: a stack of unpadded convolutions, then layers at its frame rate."""
    layers = int(config.num_hidden_layers) + 1
    return Front(
        sample_rate=sample_rate,
        strides=(math.prod(config.conv_stride),) * layers,
        widths=(config.hidden_size,) * layers,
        frames=lambda samples: (_convolved(config, samples),) * layers,
        prepare=_wave_input(normalize),
    )


def squeezed(config: Any, sample_rate: int, normalize: bool) -> Front:
    """SEW and SEW-D: hidden states at 1/squeeze_factor of the rate, then one last state, upsampled again."""
    stride, factor = math.prod(config.conv_stride), int(config.squeeze_factor)
    layers = int(config.num_hidden_layers) + 1

    def frames(samples: int) -> tuple[int, ...]:
        full = _convolved(config, samples)
        return (full // factor,) * layers + (full if full >= factor else 0,)

    return Front(
        sample_rate=sample_rate,
        strides=(stride * factor,) * layers + (stride,),
        widths=(config.hidden_size,) * (layers + 1),
        frames=frames,
        prepare=_wave_input(normalize),
    )


def wav2vec2_bert(config: Any, extractor: Any) -> Front:
    """wav2vec2-bert: Kaldi filter banks, `stride` frames stacked into one; an odd frame at the end is dropped."""
    layers = int(config.num_hidden_layers) + 1
    return Front(
        sample_rate=extractor.sampling_rate,
        strides=(KALDI_SHIFT * extractor.stride,) * layers,
        widths=(config.hidden_size,) * layers,
        frames=lambda samples: (_kaldi_frames(samples) // extractor.stride,) * layers,
        prepare=_mel_input(extractor, pad_to_multiple_of=None),
    )


def speech_to_text(config: Any, extractor: Any) -> Front:
    """speech_to_text: Kaldi filter banks, then convolutions of stride 2 padded by half their kernel."""
    layers = int(config.encoder_layers) + 1
    fewest = 2 if extractor.do_ceptral_normalize and extractor.normalize_vars else 1  # one frame has no variance

    def frames(samples: int) -> tuple[int, ...]:
        count = _kaldi_frames(samples)
        if count < fewest:
            return (0,) * layers
        for kernel in config.conv_kernel_sizes:
            count = (count + 2 * (kernel // 2) - kernel) // 2 + 1
        return (count,) * layers

    return Front(
        sample_rate=extractor.sampling_rate,
        strides=(KALDI_SHIFT * 2**config.num_conv_layers,) * layers,
        widths=(config.d_model,) * layers,
        frames=frames,
        prepare=_mel_input(extractor),
    )


def whisper(config: Any, extractor: Any) -> Front:
    """Whisper's encoder: log mel features of a 30 s window filled up with silence; its outputs are cut to the sound."""
    layers = int(config.encoder_layers) + 1
    stride = extractor.hop_length * WHISPER_SUBSAMPLING
    return Front(
        sample_rate=extractor.sampling_rate,
        strides=(stride,) * layers,
        widths=(config.d_model,) * layers,
        frames=lambda samples: (math.ceil(samples / stride),) * layers,
        prepare=_mel_input(extractor),
        max_samples=extractor.n_samples,
        fills_window=True,
    )


WAVEFORM_FRONTS: dict[str, Callable[[Any, int, bool], Front]] = {
    "data2vec-audio": waveform,
    "hubert": waveform,
    "sew": squeezed,
    "sew-d": squeezed,
    "unispeech": waveform,
    "unispeech-sat": waveform,
    "wav2vec2": waveform,
    "wav2vec2-conformer": waveform,
    "wavlm": waveform,
}
MEL_FRONTS: dict[str, Callable[[Any, Any], Front]] = {
    "speech_to_text": speech_to_text,
    "wav2vec2-bert": wav2vec2_bert,
    "whisper": whisper,
}
MODEL_TYPES = tuple(sorted([*WAVEFORM_FRONTS, *MEL_FRONTS]))


def load_extractor(folder: Path) -> Any:
    """Return the checkpoint's own feature extractor; raises `PluginError` where it ships none, or a random one."""
    from transformers import AutoFeatureExtractor

    try:
        extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PluginError(
            f"huggingface: the feature extractor of {folder} cannot be loaded: {type(error).__name__}: {error}",
            "its preprocessor_config.json says how mel features are made: get it from where the weights come from",
        ) from error
    if getattr(extractor, "dither", 0.0):
        raise PluginError(
            f"huggingface: {folder} adds random noise to every sound (dither: {extractor.dither})",
            'set "dither": 0.0 in its preprocessor_config.json: features must not change from run to run',
        )
    return extractor


def normalized(wave: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance over one utterance, as transformers' feature extractors have it."""
    import torch

    return (wave - wave.mean()) / torch.sqrt(wave.var(correction=0) + NORM_EPS)


def _wave_input(normalize: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda wave: (normalized(wave) if normalize else wave)[None]


def _mel_input(extractor: Any, **options: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    def prepare(wave: torch.Tensor) -> torch.Tensor:
        samples = wave.detach().cpu().float().numpy()
        batch = extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="pt", **options)
        features: torch.Tensor = batch["input_features"]
        return features.to(device=wave.device, dtype=wave.dtype)

    return prepare


def _convolved(config: Any, samples: int) -> int:
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1
    return max(0, samples)


def _kaldi_frames(samples: int) -> int:
    return max(0, (samples - KALDI_WINDOW) // KALDI_SHIFT + 1)
