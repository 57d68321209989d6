"""`usad`: one encoder for speech, sound and music (Chang et al. 2025, arXiv 2506.18843), ours or the published one.

    --upstream usad:checkpoint=FOLDER                                       a student trained here, see `save`
    --upstream usad:checkpoint=MIT-SLS/USAD-Base,trust_remote_code=true     the published one, by its own code

A student of ours is a `UsadEncoder` (its docstring says what of it is published and what is our choice). Layer 0 is
the transformer's input, after the positional convolutions; then comes each layer's output, the last one after the final
norm. The tap "ffn" has each layer's feed-forward output before the residual, which is what USAD distils.

The published checkpoints come with code that transformers fetches and runs: only where trust_remote_code=true says so.
Its layers are what it lists as `hidden_states` (and `ffn`), whatever it puts first, so which one is "layer 0" is its
own affair. It takes neither lengths nor masks: waves are run one at a time. None of the published checkpoints has been
run with this code (they could not be downloaded): its API is known from the model cards alone.

Frames of 20 ms: mel frames (25 ms every 10 ms, whole windows only) by two, rounded down. A sound of more than 3000 mel
frames (30 s, MAX_MEL_LENGTH of the published file) is heard by ours in pieces of so many, one knowing nothing of the
next, and the frames are put together again; the published model does with it what its code does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from superbench.contracts import sha256_of
from superbench.errors import PluginError, UsageError, did_you_mean
from superbench.options import build_options
from superbench.plugin import Layers, Upstream, UpstreamSpec
from superbench_upstreams.checkpoints import own

if TYPE_CHECKING:
    import torch

    from superbench_upstreams.usad_encoder import UsadConfig, UsadEncoder

FAMILY = "usad"
SOURCES = ("usad_encoder", "usad_published", "relative_attention", "encoder", "positions")
TRAINING_ONLY = {"dropout", "attention_dropout", "activation_dropout", "layerdrop"}


@dataclass(frozen=True)
class Options:
    """`checkpoint`: a folder of ours, or a folder or hub id of the published model. `revision`: of the hub id.

    `trust_remote_code`: run the Python code that comes with a published checkpoint? Read it first, and name the
    revision you read.
    """

    checkpoint: str
    revision: str = ""
    trust_remote_code: bool = False


class Usad:
    """A frozen encoder of ours; what it says of a wave is the same in any batch."""

    sample_rate: int
    strides: Sequence[int]
    widths: Sequence[int]
    exact_batches = True
    taps = ("ffn",)

    def __init__(self, encoder: UsadEncoder, weights_sha: str, output: Literal["hidden", "ffn"] = "hidden") -> None:
        from superbench_upstreams.usad_encoder import SAMPLE_RATE, STRIDE

        layers = encoder.config.layers + (output == "hidden")
        self.sample_rate = SAMPLE_RATE
        self.strides = (STRIDE,) * layers
        self.widths = (encoder.config.width,) * layers
        self.weights_sha = weights_sha
        self._encoder = encoder
        self._output = output

    def tap(self, name: str) -> Usad:
        """Another output of the same weights: "ffn", or "hidden", the layers themselves."""
        if name not in ("hidden", "ffn"):
            raise UsageError(f"usad has no tap {name!r}", did_you_mean(name, ("hidden", "ffn")))
        return Usad(self._encoder, self.weights_sha, "hidden" if name == "hidden" else "ffn")

    def num_frames(self, samples: int) -> int:
        """Frames of `samples` samples; 0 where they are too few."""
        from superbench_upstreams.usad_encoder import count_frames

        return count_frames(samples)

    def astype(self, dtype: torch.dtype) -> Usad:
        """Compute in `dtype` from now on (mel features stay float32); returns itself."""
        self._encoder.to(dtype)
        return self

    def __call__(self, waves: list[torch.Tensor]) -> list[Layers]:
        """Map waves [n] to their layers, [T, D] each; raises `DataError` where a wave gives no frame."""
        import torch

        with torch.no_grad():
            encoded = self._encoder(waves, taps=("states",) if self._output == "hidden" else ("ffn",))
        found = encoded.hidden if self._output == "hidden" else encoded.ffn
        return [Layers(tuple(x[i, :t].clone() for x in found)) for i, t in enumerate(encoded.lengths)]


def save(encoder: UsadEncoder, folder: Path, *, origin: Mapping[str, str]) -> None:
    """Write an encoder as a checkpoint folder of ours; `origin` says where it came from, as {"recipe": ...}.

    Raises `UsageError` where the folder holds something already.
    """
    own.write_folder(
        folder,
        family=FAMILY,
        config=asdict(encoder.config),
        settings={},
        tensors=encoder.state_dict(),
        origin=origin,
    )


def open_encoder(folder: Path) -> UsadEncoder:
    """Read an encoder that `save` wrote, in float32 and in training mode.

    Raises `PluginError` where the folder holds none, or one of another kind, `UsageError` where its sizes are wrong.
    """
    import torch

    from superbench_upstreams.usad_encoder import UsadEncoder

    found = own.read_folder(folder)
    if found.family != FAMILY:
        raise PluginError(
            f"usad: {folder} holds an encoder of the family {found.family!r}, not {FAMILY!r}",
            f"--upstream {found.family}:checkpoint={folder}",
        )
    with torch.random.fork_rng(devices=[]):  # fresh weights are drawn before the checkpoint's take their place
        encoder = UsadEncoder(_config(found, folder))
    expected = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in found.tensors.items()}
    wrong = sorted(name for name in expected.keys() | given.keys() if expected.get(name) != given.get(name))
    if wrong:
        raise PluginError(
            f"usad: {len(wrong)} tensor(s) of {folder} are missing, unknown or of another shape than its config says: "
            f"{', '.join(wrong[:5])}{', ...' if len(wrong) > 5 else ''}",
            "was it written by this version of superbench?",
        )
    encoder.load_state_dict(found.tensors)
    return encoder


def _config(found: own.Folder, folder: Path) -> UsadConfig:
    from superbench_upstreams.usad_encoder import UsadConfig

    missing = sorted({field.name for field in fields(UsadConfig)} - set(found.config))
    if missing or found.settings:
        raise PluginError(
            f"usad: the config of {folder} lacks {', '.join(missing)}"
            if missing
            else f"usad: {folder} has settings that no encoder of ours knows: {', '.join(found.settings)}",
            "was it written by this version of superbench?",
        )
    config: UsadConfig = build_options(UsadConfig, found.config, who=f"the config of {folder}")
    return config


def load(options: Options, device: str) -> Upstream:
    """Load a checkpoint on `device`: ours in float32, or the published one where its code may be run."""
    folder = Path(options.checkpoint).expanduser()
    if folder.is_dir() and options.revision:
        raise UsageError(
            f"usad: revision={options.revision!r} was given with the local folder {options.checkpoint!r}",
            "a revision selects a version on the hub: leave it out for a folder",
        )
    if not (folder / own.DESCRIPTION).is_file():
        from superbench_upstreams import usad_published as published

        return published.open_model(options.checkpoint, options.revision, options.trust_remote_code, device)
    if options.trust_remote_code:
        raise UsageError(
            f"usad: trust_remote_code=true was given, but {folder} is a checkpoint of ours and holds no code",
            "leave trust_remote_code out",
        )
    encoder = open_encoder(folder).to(device).eval().requires_grad_(False)
    encoder.positions.fix()
    return Usad(encoder, _weights_sha(encoder))


def _weights_sha(encoder: UsadEncoder) -> str:
    """SHA-256 over all that decides the features: weights, and sizes but those of training."""
    from superbench.features.identity import module_sha

    config = {name: value for name, value in asdict(encoder.config).items() if name not in TRAINING_ONLY}
    return sha256_of([module_sha(encoder), config])


SPEC = UpstreamSpec(
    name="usad",
    load=load,
    options=Options,
    summary="USAD, for speech, sound and music: a student trained here, or the published one run by its own code",
    sources=tuple(f"{__package__}.{room}" for room in SOURCES),
    distributions=("torchaudio",),
)
