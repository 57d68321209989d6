"""Find a transformers checkpoint, local or on the hub, and load its encoder with every weight accounted for.

Whatever a checkpoint is, it ends as a local folder, which is then read without any network:
    config.json                 {"model_type": "hubert", "conv_stride": [5, 2, 2, 2, 2, 2, 2], ...}
    preprocessor_config.json    {"do_normalize": true, "sampling_rate": 16000, ...}   (or inside processor_config.json)
    model.safetensors           weights; a pickle (pytorch_model.bin) is read only where it holds nothing but tensors
No code that comes with a checkpoint is ever run.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from superbench.contracts import canonical_json
from superbench.errors import MissingExtraError, PluginError, UsageError, did_you_mean
from superbench.torchaudio_loader import load as load_torchaudio

if TYPE_CHECKING:
    import torch

HUB_TIMEOUT = 5  # seconds until the hub counts as unreachable
SETTINGS_FILES = ["config.json", "preprocessor_config.json", "processor_config.json"]
WEIGHT_FILES = ["model*.safetensors", "model.safetensors.index.json"]
PICKLE_FILES = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]
WEIGHT_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".safetensors")

# Only masking in training reads this weight; checkpoints made for inference may lack it.
TRAINING_ONLY = "masked_spec_embed"

# Settings that say where a model came from, not what it computes.
ORIGIN_SETTINGS = ("_name_or_path", "architectures", "transformers_version")


def require_transformers(upstream: str = "huggingface") -> None:
    """Raise `MissingExtraError` where transformers is not installed; make torchaudio importable for it otherwise."""
    load_torchaudio()
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the upstream {upstream!r} needs {error.name}, which is not installed",
            'pip install "superbench[hf]"',
        ) from error
    transformers.utils.logging.disable_progress_bar()


def require_hub(upstream: str) -> ModuleType:
    """Return huggingface_hub, or raise `MissingExtraError` where it is not installed."""
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{upstream}: what is on the hub needs {error.name}, which is not installed",
            'pip install "superbench[hf]", or download it elsewhere and give its path',
        ) from error
    return huggingface_hub


def find(checkpoint: str, revision: str, *, upstream: str = "huggingface") -> Path:
    """Return the local folder of `checkpoint`: itself, or the snapshot of a hub id, downloaded where it is not cached.

    Where the hub cannot be reached within seconds, the cached snapshot of that revision is taken. Raises `UsageError`
    where the name is neither folder nor hub id, `PluginError` where the hub does not give it; `upstream` is who asks.
    """
    path = Path(checkpoint).expanduser()
    if checkpoint and path.is_dir():
        if revision:
            raise UsageError(
                f"{upstream}: revision={revision!r} was given with the local folder {checkpoint!r}",
                "a revision selects a version on the hub: leave it out for a folder",
            )
        return path
    if path.is_file():
        raise UsageError(
            f"{upstream}: checkpoint={checkpoint!r} is a file, not a folder",
            "give the folder that holds config.json and model.safetensors",
        )
    if looks_like_a_path(checkpoint):
        raise UsageError(
            f"{upstream}: there is no folder {checkpoint!r}", "give an existing folder, or a hub id such as owner/name"
        )
    return _from_hub(checkpoint, revision, upstream)


def looks_like_a_path(checkpoint: str) -> bool:
    """Is it written as a path, not as a hub id (owner/name)?"""
    return (
        checkpoint.startswith((".", "/", "~"))
        or checkpoint.endswith(("/", *WEIGHT_SUFFIXES))
        or "\\" in checkpoint
        or checkpoint.count("/") != 1
    )


def _from_hub(name: str, revision: str, upstream: str) -> Path:
    hub = require_hub(upstream)

    def download(files: list[str]) -> Path:
        known = revision or None
        return Path(hub.snapshot_download(name, revision=known, allow_patterns=files, etag_timeout=HUB_TIMEOUT))

    try:
        folder = download([*SETTINGS_FILES, *WEIGHT_FILES])
        return folder if any(folder.glob("*.safetensors")) else download([*SETTINGS_FILES, *PICKLE_FILES])
    except (OSError, ValueError) as error:
        raise PluginError(
            f"{upstream}: {name!r} is no local folder, and the hub gave no such checkpoint"
            f"{f' at revision {revision!r}' if revision else ''}: {type(error).__name__}: {error}",
            "check the name and the network, log in with `hf auth login` where access is restricted, "
            "or download it elsewhere and give the folder",
        ) from error


def read_settings(folder: Path, *, upstream: str = "huggingface") -> dict[str, Any]:
    """Return config.json as it stands."""
    path = folder / "config.json"
    if not path.is_file():
        raise PluginError(
            f"{upstream}: {folder} holds no config.json, so it is no transformers checkpoint",
            "give a folder written by `save_pretrained`; fairseq and s3prl files have upstreams of their own",
        )
    return read_json(path, upstream=upstream)


def read_preprocessor(folder: Path, *, upstream: str = "huggingface") -> dict[str, Any] | None:
    """Return what the checkpoint says of its input, or None where it ships nothing."""
    combined, own = folder / "processor_config.json", folder / "preprocessor_config.json"
    nested = read_json(combined, upstream=upstream).get("feature_extractor") if combined.is_file() else None
    if isinstance(nested, dict):
        return nested
    return read_json(own, upstream=upstream) if own.is_file() else None


def read_json(path: Path, *, upstream: str) -> dict[str, Any]:
    """Return the JSON object in a file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise PluginError(f"{upstream}: {path} is no JSON: {error}", "download the checkpoint again") from error
    if not isinstance(value, dict):
        raise PluginError(f"{upstream}: {path} holds no JSON object", "download the checkpoint again")
    return value


def check_model_type(settings: dict[str, Any], folder: Path, known: tuple[str, ...]) -> str:
    """Return the checkpoint's model type, or refuse it by name where it is none of `known`."""
    model_type = str(settings.get("model_type", ""))
    if model_type not in known:
        raise PluginError(
            f"huggingface: {folder} is of model type {model_type!r}, which this upstream does not run; "
            f"it runs: {', '.join(known)}",
            f"{did_you_mean(model_type, known)} Any other encoder: write an upstream (upstreams/README.md)",
        )
    if settings.get("add_adapter"):
        raise PluginError(
            f"huggingface: {folder} has an adapter (add_adapter: true) that changes the frame rate of its last layer",
            'set "add_adapter": false in its config.json to benchmark the encoder below the adapter',
        )
    return model_type


def load_encoder(folder: Path, device: str) -> torch.nn.Module:
    """Load the checkpoint in `folder` in float32, frozen and in eval mode; of an encoder-decoder, only the encoder.

    Raises `PluginError` where it cannot be read, or lacks a weight that transformers would set at random.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel

    try:
        with torch.random.fork_rng(devices=[]):  # building a model draws numbers, even where all weights are read
            model, report = AutoModel.from_pretrained(
                folder,
                dtype=torch.float32,
                attn_implementation="eager",  # the one implementation that every family has
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except pickle.UnpicklingError as error:
        raise PluginError(
            f"huggingface: {folder} keeps its weights in a pickle that holds more than tensors, so it was not opened",
            "such a file can run any code: get the checkpoint as model.safetensors from someone you trust",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise PluginError(
            f"huggingface: {folder} cannot be loaded: {type(error).__name__}: {error}",
            "does `transformers.AutoModel.from_pretrained` load it?",
        ) from error
    prefix = "encoder." if model.config.is_encoder_decoder else ""
    missing = sorted(k for k in report["missing_keys"] if k.startswith(prefix) and not k.endswith(TRAINING_ONLY))
    if missing:
        raise PluginError(
            f"huggingface: {folder} lacks {len(missing)} weight(s) of its model, which would be random: "
            f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}",
            "is config.json the one this checkpoint was trained with?",
        )
    encoder: torch.nn.Module = model.get_encoder() if prefix else model
    return encoder.to(device).eval().requires_grad_(False)


def weights_sha(encoder: torch.nn.Module, preprocessor: dict[str, Any]) -> str:
    """SHA-256 over all that decides the features: weights and buffers by sorted name, settings, and input settings.

    Left out are the weights only training reads, and settings that tell an origin; no path is in it.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        if not name.endswith(TRAINING_ONLY):
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).numpy())
    settings: dict[str, Any] = json.loads(encoder.config.to_json_string(use_diff=False))  # type: ignore[union-attr,operator]
    told = {key: value for key, value in settings.items() if key not in ORIGIN_SETTINGS}
    digest.update(canonical_json([told, preprocessor]).encode())
    return digest.hexdigest()
