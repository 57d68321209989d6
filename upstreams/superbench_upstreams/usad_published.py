"""The published USAD, run by the Python code that comes with its checkpoint, where the user says that it may be.

A checkpoint is a folder, or becomes one by a download from the hub:
    config.json            {"auto_map": {"AutoConfig": "configuration_usad.USADConfig",
                                         "AutoModel": "modeling_usad.USADModel"}, "encoder_dim": 768, ...}
    modeling_usad.py ...   the code
    model.safetensors      weights (or pytorch_model.bin, read as tensors alone)
transformers copies and imports the classes, no more. Its AutoModel would take the model class of a checkpoint loaded
before, where both have the same configuration class; and its `from_pretrained` builds models without storage, in which
tables that are no weights are lost. So the model is built here, and every weight of it is read here.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from superbench.errors import DataError, PluginError, UsageError, did_you_mean
from superbench.plugin import Layers
from superbench_upstreams.huggingface_checkpoint import HUB_TIMEOUT, read_json, require_transformers
from superbench_upstreams.usad_encoder import SAMPLE_RATE, SHIFT, STRIDE, WINDOW, count_frames

LISTS = {"hidden": "hidden_states", "ffn": "ffn"}  # our name of an output: the model's
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]*\w")
HUB_FILES = ["*.json", "*.py", "*.safetensors"]


class PublishedUsad:
    """The published encoder; each wave is run alone, since it takes neither lengths nor masks."""

    sample_rate: int = SAMPLE_RATE
    strides: Sequence[int]
    widths: Sequence[int]
    exact_batches = True
    taps: tuple[str, ...]

    def __init__(self, model: torch.nn.Module, device: str, output: str = "hidden") -> None:
        """`model` maps a wave [1, n] to a dict with lists of [1, T, D] (see LISTS); it is asked for their sizes."""
        self._model = model
        self._device = device
        self._list = LISTS[output]
        said = self._ask(0.1 * torch.sin(torch.arange(SAMPLE_RATE) / 10))
        self.taps = ("ffn",) if said.get(LISTS["ffn"]) else ()
        self.widths = tuple(x.shape[-1] for x in said[self._list])
        self.strides = (STRIDE,) * len(self.widths)

    def tap(self, name: str) -> PublishedUsad:
        """Another output of the same weights: "ffn", or "hidden", the layers themselves."""
        if name not in ("hidden", *self.taps):
            raise UsageError(f"usad has no tap {name!r}", did_you_mean(name, ("hidden", *self.taps)))
        return PublishedUsad(self._model, self._device, name)

    def num_frames(self, samples: int) -> int:
        """Frames of `samples` samples; 0 where they are too few."""
        return count_frames(samples)

    def __call__(self, waves: list[Tensor]) -> list[Layers]:
        """Map waves [n] to their layers, [T, D] each, cut to `num_frames`; raises `DataError` for one without any."""
        return [self._layers(wave) for wave in waves]

    def _layers(self, wave: Tensor) -> Layers:
        frames = self.num_frames(wave.shape[0])
        if frames < 1:
            raise DataError(
                f"a sound of {wave.shape[0]} samples is too short: it gives this encoder no frame",
                f"leave out sounds of fewer than {WINDOW + SHIFT} samples at {SAMPLE_RATE} Hz",
            )
        found = self._ask(wave)[self._list]
        fewest = min(x.shape[1] for x in found)
        if fewest < frames:
            raise PluginError(
                f"the published USAD gave {fewest} frames for {wave.shape[0]} samples, whose mel frames by two are "
                f"{frames}",
                "tell us which checkpoint and revision this is; where only sounds above 30 s do it, cut them",
            )
        return Layers(tuple(x[0, :frames].clone() for x in found))

    def _ask(self, wave: Tensor) -> Mapping[str, Any]:
        with torch.no_grad():
            said = self._model(wave.to(device=self._device, dtype=torch.float32)[None])
        if not isinstance(said, Mapping) or not said.get(self._list):
            what = f"a dict of {', '.join(map(str, said))}" if isinstance(said, Mapping) else type(said).__name__
            raise PluginError(
                f"the published USAD gave no list {self._list!r}, but {what}",
                "by its card it gives a dict with x, mel, hidden_states and ffn: is this a checkpoint of USAD?",
            )
        return said


def open_model(checkpoint: str, revision: str, trusted: bool, device: str) -> PublishedUsad:
    """Load a published checkpoint, a folder or a hub id, in float32 on `device`; refused where it is not `trusted`."""
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        _refuse_unless(trusted, f"the code that comes with {folder}: {' and '.join(_code_of(folder))}")
    elif HUB_ID.fullmatch(checkpoint) and not folder.exists():
        _refuse_unless(trusted, f"the code that comes with {checkpoint!r} on the hub")
        folder = _download(checkpoint, revision)
    else:
        raise UsageError(
            f"usad: {checkpoint!r} is a file, not a folder" if folder.exists() else f"usad: no folder {checkpoint!r}",
            "give a folder, or a hub id such as MIT-SLS/USAD-Base",
        )
    return PublishedUsad(_build(folder).to(device).eval().requires_grad_(False), device)


def _refuse_unless(trusted: bool, what: str) -> None:
    if not trusted:
        raise UsageError(
            f"usad: to load this checkpoint, transformers would run {what}",
            "it can do anything you can: read it, then add trust_remote_code=true (and, on the hub, revision=COMMIT)",
        )


def _code_of(folder: Path) -> tuple[str, str]:
    """The classes of configuration and model that config.json names; raises `PluginError` where it names none."""
    path = folder / "config.json"
    if not path.is_file():
        raise PluginError(
            f"usad: {folder} holds neither superbench.json nor config.json, so it is no checkpoint of USAD",
            "give a folder that superbench wrote, or a download of the published model",
        )
    named = read_json(path, upstream="usad").get("auto_map")
    if not isinstance(named, dict) or not {"AutoConfig", "AutoModel"} <= named.keys():
        raise PluginError(
            f"usad: {path} names no code of its own (auto_map with AutoConfig and AutoModel), as published ones do",
            "for a model that transformers itself knows: --upstream huggingface:checkpoint=...",
        )
    return str(named["AutoConfig"]), str(named["AutoModel"])


def _download(name: str, revision: str) -> Path:
    require_transformers("usad")
    from huggingface_hub import snapshot_download

    def fetch(files: list[str]) -> Path:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=files, etag_timeout=HUB_TIMEOUT))

    try:
        folder = fetch(HUB_FILES)
        return folder if any(folder.glob("*.safetensors")) else fetch([*HUB_FILES, "*.bin"])
    except (OSError, ValueError) as error:
        raise PluginError(
            f"usad: {name!r} is no local folder, and the hub gave no such checkpoint"
            f"{f' at revision {revision!r}' if revision else ''}: {type(error).__name__}: {error}",
            "check the name and the network, or download it elsewhere and give the folder",
        ) from error


def _build(folder: Path) -> torch.nn.Module:
    """Run the checkpoint's code: its model in float32, with every weight read."""
    require_transformers("usad")
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    configuration, architecture = (
        get_class_from_dynamic_module(reference, folder, local_files_only=True) for reference in _code_of(folder)
    )
    with torch.random.fork_rng(devices=[]):  # fresh weights are drawn before the checkpoint's take their place
        config = configuration.from_pretrained(folder, local_files_only=True)
        model: torch.nn.Module = architecture._from_config(config, dtype=torch.float32)
    try:
        model.load_state_dict(_weights(folder))
    except RuntimeError as error:  # of load_state_dict: names what is missing, unknown, or of another shape
        raise PluginError(
            f"usad: the weights of {folder} are not those of its model: {error}",
            "is config.json the one this checkpoint was trained with?",
        ) from error
    return model.float()


def _weights(folder: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    weights: dict[str, Tensor] = {}
    try:
        for file in files:
            weights |= (
                load_file(file)
                if file.suffix == ".safetensors"
                else torch.load(file, map_location="cpu", weights_only=True)
            )
    except (SafetensorError, pickle.UnpicklingError) as error:
        raise PluginError(f"usad: {file} holds no tensors: {error}", "download the checkpoint again") from error
    if not files:
        raise PluginError(
            f"usad: {folder} holds no weights (*.safetensors or pytorch_model*.bin)", "download the checkpoint again"
        )
    return weights
