"""An encoder of the wav2vec 2.0 family as an upstream: frozen, exact in any batch, with more than one thing to say.

Shapes: B utterances, T frames, D width; a wave is [n], and what comes back for it is [T, D] per layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from superbench.contracts import sha256_of
from superbench.errors import DataError, PluginError, UsageError, did_you_mean
from superbench.features.identity import module_sha
from superbench.plugin import Layers
from superbench_upstreams.checkpoints import read_checkpoint
from superbench_upstreams.encoder import SAMPLE_RATE, Encoded, Encoder, EncoderConfig, Tap
from superbench_upstreams.options import EncoderOptions

if TYPE_CHECKING:
    from superbench_upstreams.checkpoints import Checkpoint


@dataclass(frozen=True, kw_only=True)
class Output:
    """One thing an upstream can say of a batch: a tensor [B, T, width] per layer."""

    widths: tuple[int, ...]
    read: Callable[[Encoded], Sequence[Tensor]]
    needs: tuple[Tap, ...] = ()  # of the transformer; where it is nothing, the transformer does not run
    integers: bool = False  # codes

    @property
    def layers(self) -> int:
        return len(self.widths)


class Method(nn.Module):
    """An encoder with what its method adds to it: heads, codebooks. `outputs` names all that it can say."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.config: EncoderConfig = checkpoint.config
        self.settings: Mapping[str, Any] = checkpoint.settings
        self.encoder = Encoder(checkpoint.config)
        self.encoder.load_state_dict(checkpoint.weights)

    def outputs(self) -> dict[str, Output]:
        """By name; "hidden" is what a head sums: the transformer's input, then the output of each layer."""
        return {"hidden": self._hidden(), **self._inner()}

    def _hidden(self) -> Output:
        widths = (self.config.width,) * (self.config.layers + 1)
        return Output(widths=widths, read=lambda e: e.hidden, needs=("states",))

    def _projected_first(self) -> Output:
        """The list of Spin's wrapper and its relatives: projected convolution features, then what each layer gives."""
        widths = (self.config.width,) * (self.config.layers + 1)
        return Output(widths=widths, read=lambda e: (e.projected, *e.states[1:]), needs=("states",))

    def _inner(self) -> dict[str, Output]:
        width, channels = self.config.width, self.config.conv_layers[-1][0]
        return {
            "ffn": Output(widths=(width,) * self.config.layers, read=lambda e: e.ffn, needs=("ffn",)),
            "convolved": Output(widths=(channels,), read=lambda e: (e.convolved,)),
            "projected": Output(widths=(width,), read=lambda e: (e.projected,)),
        }


class FrozenEncoder:
    """One output of a frozen method, as an upstream; `tap` gives another one of the same weights.

    It claims no exact batches: in bfloat16 who else is in a batch changes features by about 1 %.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self, method: Method, weights_sha: str, output: str = "hidden") -> None:
        self.method = method
        self.weights_sha = weights_sha
        self._outputs = method.outputs()
        self._output = self._outputs[output]
        self.widths = self._output.widths
        self.strides = (method.config.stride,) * self._output.layers
        self.taps = tuple(self._outputs)
        self.integers = self._output.integers

    def tap(self, name: str) -> FrozenEncoder:
        """Another output of the same weights; raises `UsageError` where there is none of that name."""
        if name not in self._outputs:
            raise UsageError(f"there is no tap {name!r}", did_you_mean(name, self.taps))
        return type(self)(self.method, self.weights_sha, name)

    def num_frames(self, samples: int) -> int:
        """Frames of `samples` samples by the arithmetic of the convolutions; 0 where they are too few."""
        return self.method.config.num_frames(samples)

    def __call__(self, waves: Sequence[Tensor]) -> list[Layers]:
        """Map waves [n] to layers [T, D] each, as if each were alone; raises `DataError` for what gives no frame."""
        for wave in waves:
            self._check(wave)
        with torch.no_grad():
            encoded = self.method.encoder(waves, taps=self._output.needs, layers=None if self._output.needs else 0)
            found = self._output.read(encoded)
        return [
            Layers(tuple(self._cut(tensor[i, :length], wave.dtype) for tensor in found))
            for i, (wave, length) in enumerate(zip(waves, encoded.lengths, strict=True))
        ]

    def _cut(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        return tensor if self.integers else tensor.to(dtype)

    def _check(self, wave: Tensor) -> None:
        if wave.ndim != 1:
            raise DataError(
                f"a wave must be one channel [n], not {list(wave.shape)}", "mix its channels down, or choose one"
            )
        if not wave.is_floating_point():
            raise DataError(f"a wave must be of floating point, not {wave.dtype}", "divide 16-bit samples by 32768")
        if self.num_frames(len(wave)) < 1:
            fewest = next(n for n in range(1, 1 << 20) if self.num_frames(n))
            raise DataError(
                f"a sound of {len(wave)} samples is too short: it gives this encoder no frame",
                f"leave out sounds of fewer than {fewest} samples at {SAMPLE_RATE} Hz",
            )


class ExactEncoder(FrozenEncoder):
    """A frozen method in float32 or float64."""

    exact_batches = True

    def astype(self, dtype: torch.dtype) -> ExactEncoder:
        """Compute in `dtype` from now on; returns itself."""
        self.method.to(dtype)
        return self


def open_method(
    build: Callable[[Checkpoint], Method], family: str, options: EncoderOptions, device: str, **more: str
) -> FrozenEncoder:
    """Read a checkpoint of `family`, build the method on it, freeze it, and move it to `device`."""
    checkpoint = read_checkpoint(
        options.checkpoint, family=family, normalize=options.normalize, revision=options.revision, **more
    )
    with torch.random.fork_rng(devices=[]):  # fresh weights are drawn before the checkpoint's take their place
        method = build(checkpoint)
    method = method.to(device).eval().requires_grad_(False)
    method.encoder.fix()
    sha = weights_sha(method)
    if options.compile:
        for layer in method.encoder.layers:
            layer.compile()
    return ExactEncoder(method, sha) if options.dtype == "float32" else FrozenEncoder(in_bfloat16(method), sha)


def in_bfloat16(method: Method) -> Method:
    """Bring a method to bfloat16, but for what reads the samples and what is computed in the frequency domain."""
    method.to(torch.bfloat16)
    method.encoder.convolutions.layers[0].float()
    method.encoder.positions.float()
    return method


def weights_sha(method: Method) -> str:
    """SHA-256 over all that decides what a method says: weights, and settings but those of training."""
    training = {f.name for f in fields(EncoderConfig) if "dropout" in f.name} | {"layerdrop", "conv_grad_scale"}
    config = {name: value for name, value in asdict(method.config).items() if name not in training}
    return sha256_of([module_sha(method), config, dict(method.settings)])


def linear(extras: Mapping[str, Tensor], name: str, *, bias: bool = True) -> nn.Linear:
    """A linear map from a checkpoint's own tensors `name.weight` (and `name.bias`)."""
    keys = [f"{name}.weight", *([f"{name}.bias"] if bias else [])]
    missing = [key for key in keys if key not in extras]
    if missing:
        raise PluginError(f"the checkpoint lacks {', '.join(missing)}", "is it the whole file of this method?")
    outputs, inputs = extras[keys[0]].shape
    layer = nn.Linear(inputs, outputs, bias=bias)
    layer.load_state_dict({key.removeprefix(f"{name}."): extras[key] for key in keys})
    return layer
