"""`huggingface`: any speech encoder that transformers loads, from a local folder or the hub, one utterance at a time.

    --upstream huggingface:checkpoint=facebook/hubert-base-ls960,normalize=false

Layer 0 is the transformer's input, then comes the output of each layer. The last one is the encoder's own last state,
after its final norm, which transformers 5 leaves out of `hidden_states` (reference/UPSTREAMS.md, trap 2). SEW's layers
run at half the rate of its last state: they come with their own stride, and the last state is one layer more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superbench.errors import DataError, PluginError, UsageError
from superbench.plugin import Layers, UpstreamSpec
from superbench_upstreams import huggingface_checkpoint as checkpoints
from superbench_upstreams import huggingface_fronts as fronts

if TYPE_CHECKING:
    import torch

NORMALIZE = ("auto", "true", "false")


@dataclass(frozen=True)
class Options:
    """`checkpoint`: a local folder or a hub id. `revision`: branch, tag or commit on the hub.

    `normalize`: bring each utterance to zero mean and unit variance? "auto" does what do_normalize in the checkpoint's
    preprocessor_config.json says; some checkpoints say true though they were trained without: "false" overrides.
    """

    checkpoint: str
    revision: str = ""
    normalize: str = "auto"


class HuggingFace:
    """A frozen encoder of transformers, as an upstream; each wave is run alone, without padding."""

    sample_rate: int
    strides: Sequence[int]
    widths: Sequence[int]
    max_samples: int  # only where the encoder has a limit
    exact_batches = True

    def __init__(self, encoder: torch.nn.Module, front: fronts.Front, weights_sha: str) -> None:
        self.sample_rate = front.sample_rate
        self.strides = front.strides
        self.widths = front.widths
        self.weights_sha = weights_sha
        if front.max_samples is not None:
            self.max_samples = front.max_samples
        self._encoder = encoder
        self._front = front

    def num_frames(self, samples: int) -> tuple[int, ...]:
        """Frames of each layer for `samples` samples; 0 where they are too few."""
        return self._front.frames(samples)

    def astype(self, dtype: torch.dtype) -> HuggingFace:
        """Compute in `dtype` from now on (mel features stay float32); returns itself."""
        self._encoder.to(dtype)
        return self

    def __call__(self, waves: list[torch.Tensor]) -> list[Layers]:
        """Map waves [n] to their layers, [T, D] each; raises `DataError` where a wave is too short or too long."""
        return [self._layers(wave) for wave in waves]

    def _layers(self, wave: torch.Tensor) -> Layers:
        import torch

        if wave.ndim != 1:
            raise DataError(
                f"a wave must be one channel [n], not {list(wave.shape)}", "mix its channels down, or choose one"
            )
        samples = wave.shape[0]
        self._check_length(samples)
        first = next(self._encoder.parameters())
        with torch.no_grad():
            x = self._front.prepare(wave.to(device=first.device, dtype=first.dtype))
            output = self._encoder(x, output_hidden_states=True)
        *hidden, top = output.hidden_states
        last = output.last_hidden_state
        states = [*hidden, last] if top.shape == last.shape else [*hidden, top, last]
        if not self._front.fills_window:
            return Layers(tuple(state[0] for state in states))
        return Layers(tuple(s[0, :t].clone() for s, t in zip(states, self.num_frames(samples), strict=True)))

    def _check_length(self, samples: int) -> None:
        limit = self._front.max_samples
        if limit is not None and samples > limit:
            raise DataError(
                f"a sound of {samples} samples is too long: this encoder hears at most {limit} samples "
                f"({limit / self.sample_rate:g} s)",
                f"cut sounds to {limit / self.sample_rate:g} s, or use another upstream",
            )
        if min(self.num_frames(samples)) < 1:
            raise DataError(
                f"a sound of {samples} samples is too short: it gives this encoder no frame",
                f"leave out sounds of fewer than {self._fewest_samples()} samples at {self.sample_rate} Hz",
            )

    def _fewest_samples(self) -> int:
        samples = 1
        while min(self.num_frames(samples)) < 1:
            samples += 1
        return samples


def load(options: Options, device: str) -> HuggingFace:
    """Load a checkpoint in float32 on `device`; every doubt about what it is or was fed with is an error."""
    if options.normalize not in NORMALIZE:
        raise UsageError(
            f"huggingface: normalize={options.normalize!r} is not one of {', '.join(NORMALIZE)}", "say normalize=auto"
        )
    checkpoints.require_transformers()
    folder = checkpoints.find(options.checkpoint, options.revision)
    model_type = checkpoints.check_model_type(checkpoints.read_settings(folder), folder, fronts.MODEL_TYPES)
    stated = checkpoints.read_preprocessor(folder)
    if model_type in fronts.WAVEFORM_FRONTS:
        normalize = _normalize(options, stated, folder)
        sample_rate = int((stated or {}).get("sampling_rate", 16000))  # Hz; every published one of these has 16 kHz
        encoder = checkpoints.load_encoder(folder, device)
        front = fronts.WAVEFORM_FRONTS[model_type](encoder.config, sample_rate, normalize)
        fed: dict[str, Any] = {"normalize": normalize, "sampling_rate": sample_rate}
    else:
        _refuse_normalize(options, model_type)
        extractor = fronts.load_extractor(folder)
        encoder = checkpoints.load_encoder(folder, device)
        front = fronts.MEL_FRONTS[model_type](encoder.config, extractor)
        fed = stated or {}
    return HuggingFace(encoder, front, checkpoints.weights_sha(encoder, fed))


def _normalize(options: Options, stated: dict[str, Any] | None, folder: Path) -> bool:
    """Is the wave normalised? The option's word, or the checkpoint's; never a guess."""
    if options.normalize != "auto":
        return options.normalize == "true"
    if stated is None or not isinstance(stated.get("do_normalize"), bool):
        raise PluginError(
            f"huggingface: {folder} does not say whether waveforms are normalised "
            "(no do_normalize in a preprocessor_config.json)",
            "say normalize=true or normalize=false, as the encoder was trained",
        )
    return bool(stated["do_normalize"])


def _refuse_normalize(options: Options, model_type: str) -> None:
    if options.normalize != "auto":
        raise UsageError(
            f"huggingface: normalize={options.normalize} was given for {model_type}, whose own feature extractor "
            "makes its mel features",
            "leave normalize out",
        )


SPEC = UpstreamSpec(
    name="huggingface",
    load=load,
    options=Options,
    summary="a speech encoder of transformers: " + ", ".join(fronts.MODEL_TYPES),
    sources=(checkpoints.__name__, fronts.__name__),
    distributions=("transformers",),
)
