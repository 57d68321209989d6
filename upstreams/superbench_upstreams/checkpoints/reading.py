"""Find a checkpoint, tell which of the formats it has, read it, and see that it is what was asked for.

Light at import: torch comes with the first checkpoint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from superbench.errors import PluginError, UsageError, did_you_mean
from superbench_upstreams import huggingface_checkpoint
from superbench_upstreams.checkpoints import own
from superbench_upstreams.checkpoints.checkpoint import FAMILIES, Checkpoint
from superbench_upstreams.checkpoints.wording import listed, shown

NORMALIZE = {"auto": None, "true": True, "false": False}
HUB, LONGEST_ADDRESS = "hf://", 1000  # characters; the hub allows 96 of a name
METHODS = {"spin": "spin", "rspin": "rspin", "unilm": "wavlm", "distiller": "distilhubert"}  # that write no other


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is wanted of a checkpoint: by whom, of which method ("": any), and what the user adds to what it says."""

    upstream: str
    family: str = ""
    base: str = ""
    config: str = ""
    normalize: bool | None = None


def read_checkpoint(
    path: str, *, family: str = "", base: str = "", config: str = "", normalize: str = "auto", revision: str = ""
) -> Checkpoint:
    """Read a checkpoint of the method `family`, or of any, whatever wrote it; hold every weight against its encoder.

    `path`: a file, a folder, owner/name on the hub, or hf://[datasets/]owner/name[@revision]/file for one file there.
    `base`: for Spin, a checkpoint of the encoder it was trained from. `config`: for R-Spin, a JSON file with the
    encoder's settings. `normalize`: "true" or "false" where the file says it wrongly or not at all. `revision`: on the
    hub. Raises `UsageError` where options do not fit, `PluginError` where the checkpoint does not.
    """
    upstream = family or "checkpoint"
    if family and family not in FAMILIES:
        raise UsageError(f"there is no method {family!r}", did_you_mean(family, FAMILIES))
    if normalize not in NORMALIZE:
        raise UsageError(
            f"{upstream}: normalize={normalize!r} is not one of {', '.join(NORMALIZE)}", "say normalize=auto"
        )
    asked = Asked(upstream=upstream, family=family, base=base, config=config, normalize=NORMALIZE[normalize])
    found = _find(path, revision, upstream)
    checkpoint = _read(found, asked)
    _check_family(checkpoint.family, asked, found)
    return checkpoint


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in our own format into a new folder; see `own.write_folder`."""
    own.write_folder(
        folder,
        family=checkpoint.family,
        config=dataclasses.asdict(checkpoint.config),
        settings=checkpoint.settings,
        tensors={f"encoder.{name}": tensor for name, tensor in checkpoint.weights.items()}
        | {f"extras.{name}": tensor for name, tensor in checkpoint.extras.items()},
        origin={"format": checkpoint.format},
    )


def _find(path: str, revision: str, upstream: str) -> Path:
    if path.startswith(HUB):
        return _from_hub(path, revision, upstream)
    try:
        local = Path(path).expanduser()
        is_file, is_folder = local.is_file(), local.is_dir()
    except (OSError, RuntimeError) as error:  # a name too long, a folder that may not be entered, no such user
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"{upstream}: no checkpoint can be looked for at {shown(path)}: {reason}",
            "give an existing file or folder, a hub id such as owner/name, or hf://owner/name/file",
        ) from error
    if is_file:
        if revision:
            raise UsageError(
                f"{upstream}: revision={revision!r} was given with the local file {path!r}",
                "a revision selects a version on the hub: leave it out for a file",
            )
        return local
    if not is_folder and huggingface_checkpoint.looks_like_a_path(path):
        raise UsageError(
            f"{upstream}: there is no file or folder {path!r}",
            "give an existing one, a hub id such as owner/name, or hf://owner/name/file",
        )
    return huggingface_checkpoint.find(path, revision, upstream=upstream)


def _from_hub(address: str, revision: str, upstream: str) -> Path:
    """One file of a repository of models, or of data sets, on the hub: downloaded, or from its cache."""
    rest = address.removeprefix(HUB)
    kind = "dataset" if rest.startswith("datasets/") else "model"
    owner, name, file = [*rest.removeprefix("datasets/").split("/", 2), "", "", ""][:3]
    name, _, stated = name.partition("@")
    differs = revision and stated and revision != stated
    if not (owner and name and file) or len(address) > LONGEST_ADDRESS or differs:
        raise UsageError(
            f"{upstream}: {shown(address)}{f' with revision={revision!r}' if revision else ''} names no file on "
            "the hub",
            "say hf://owner/name/file or hf://datasets/owner/name/file; a @revision may follow the name",
        )
    hub = huggingface_checkpoint.require_hub(upstream)
    try:
        return Path(
            hub.hf_hub_download(
                f"{owner}/{name}",
                file,
                repo_type=kind,
                revision=stated or revision or None,
                etag_timeout=huggingface_checkpoint.HUB_TIMEOUT,
            )
        )
    except (OSError, ValueError) as error:
        raise PluginError(
            f"{upstream}: the hub gave no {address}: {type(error).__name__}: {error}",
            "check the name and the network, or download the file elsewhere and give its path",
        ) from error


def _check_family(found: str, asked: Asked, path: Path) -> None:
    if asked.family not in ("", found):
        raise PluginError(
            f"{asked.upstream}: {path} is a {found} checkpoint", f"use --upstream {found}:checkpoint={path}"
        )


def _refuse(asked: Asked, path: Path, *options: str) -> None:
    given = [f"{key}={getattr(asked, key)}" for key in options if getattr(asked, key)]
    if given:
        raise UsageError(
            f"{asked.upstream}: {' and '.join(given)} was given with {path}, which says itself what its encoder is",
            "base is for Spin's own files and config for R-Spin's: leave it out",
        )


def _read(path: Path, asked: Asked) -> Checkpoint:
    if not path.is_dir():
        return _file(path, asked)
    _refuse(asked, path, "base", "config")
    if (path / own.DESCRIPTION).is_file():
        from superbench_upstreams.checkpoints.own_checkpoint import read_own

        return read_own(path, asked.normalize)
    if not (path / "config.json").is_file():
        raise PluginError(
            f"{path} holds neither config.json (of transformers) nor {own.DESCRIPTION} (of superbench)",
            "give the folder of one of these, or a file of fairseq, s3prl, unilm, Spin, R-Spin or Distiller",
        )
    from superbench_upstreams.checkpoints.transformers_folder import method, read_transformers

    _check_family(method(path, asked.upstream), asked, path)
    return read_transformers(path, asked.upstream, asked.normalize)


def _file(path: Path, asked: Asked) -> Checkpoint:
    from superbench_upstreams.checkpoints import distiller, fairseq, rspin, spin, unilm
    from superbench_upstreams.checkpoints.torch_files import read_torch_file

    held = read_torch_file(path)
    form = _format(held, path)
    if form in METHODS:
        _check_family(METHODS[form], asked, path)
    if form == "spin":
        _refuse(asked, path, "config")
        any_base = Asked(upstream=asked.upstream, normalize=asked.normalize)
        base = _read(_find(asked.base, "", asked.upstream), any_base) if asked.base else None
        return spin.read_spin(held, path, asked.normalize, base)
    if form == "rspin":
        _refuse(asked, path, "base")
        return rspin.read_rspin(held, path, asked.normalize, asked.config)
    _refuse(asked, path, "base", "config")
    read = {
        "fairseq": fairseq.read_fairseq,
        "s3prl": fairseq.read_s3prl,
        "unilm": unilm.read_unilm,
        "distiller": distiller.read_distiller,
    }[form]
    return read(held, path, asked.normalize)


def _format(held: Mapping[str, Any], path: Path) -> str:
    """Which program wrote a file, by the keys that only it writes."""
    cfg: Any = held.get("cfg")
    cfg = cfg if isinstance(cfg, Mapping) else {}
    if {"task_cfg", "model_cfg", "model_weight"} <= set(held):
        return "s3prl"
    if {"Config", "Distiller"} <= set(held):
        return "distiller"
    if isinstance(held.get("state_dict"), Mapping):
        if "codebook_size" in cfg:
            return "rspin"
        if "loss_module.codebook.weight" in held["state_dict"]:
            return "spin"
    if "model" in held and ("model" in cfg or isinstance(held.get("args"), Mapping)):
        return "fairseq"
    if "model" in held and "encoder_layers" in cfg:
        return "unilm"
    raise PluginError(
        f"{path} is a torch file with the keys {listed(held) or 'none'}: a checkpoint of no kind that is read here",
        "give a file of fairseq, s3prl, unilm, Spin, R-Spin or Distiller, or a folder of transformers or superbench",
    )
