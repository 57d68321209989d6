"""Our own checkpoint folder: one JSON file that says what it is, one safetensors file that holds the numbers.

    superbench.json       {"format": 1, "family": "spin", "from": {"format": "s3prl"}, "config": {"width": 768, ...},
                           "settings": {"temperature": 0.1}, "sha256": "9f86d0..."}
    weights.safetensors   the tensors; "sha256" is that of this file

Each is written under a temporary name and renamed, the JSON last: where it stands, the checkpoint is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superbench.contracts import canonical_json
from superbench.errors import IntegrityError, PluginError, ResourceError, UsageError
from superbench_upstreams.checkpoints.wording import listed, shown

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
DESCRIPTION, WEIGHTS = "superbench.json", "weights.safetensors"
FIELDS = ("format", "family", "from", "config", "settings", "sha256")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What a folder of ours says."""

    family: str
    config: dict[str, Any]
    settings: dict[str, Any]
    tensors: dict[str, Tensor]
    origin: dict[str, str]  # where the numbers came from: {"format": "fairseq"}


def write_folder(
    folder: Path,
    *,
    family: str,
    config: Mapping[str, Any],
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    origin: Mapping[str, str],
) -> None:
    """Write a checkpoint into a new or empty folder, whole or not at all.

    Raises `UsageError` where there is something in it already or it is no name of a folder, `ResourceError` where it
    cannot be written.
    """
    from safetensors import SafetensorError

    said = {"format": FORMAT, "family": family, "from": {**origin}, "config": {**config}, "settings": {**settings}}
    canonical_json(said)  # whatever is no JSON fails here, before anything is written
    made: list[Path] | None = None
    whole = False
    try:
        _refuse_unless_free(folder)
        made = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, said, tensors)
        whole = True
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ResourceError(
            f"{shown(str(folder))} cannot be written: {reason}",
            "give a new folder in a place where you may write, with room for the weights",
        ) from error
    finally:
        if made is not None and not whole:
            _clear(folder, made)


def _refuse_unless_free(folder: Path) -> None:
    if not folder.parts:
        raise UsageError("no folder is named to write the checkpoint into", "give the name of a new folder")
    if folder.is_symlink() and not folder.exists():
        raise UsageError(
            f"{folder} is a link that leads nowhere, to {folder.readlink()}", "remove the link, or give a new folder"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} is there already, and a checkpoint is never written over", "give a new or an empty folder"
        )


def _write(folder: Path, said: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    part = folder / f"{WEIGHTS}.part"
    save_file({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}, part)
    described = {**said, "sha256": _sha256(part)}
    part.rename(folder / WEIGHTS)
    part = folder / f"{DESCRIPTION}.part"
    part.write_text(json.dumps(described, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    part.rename(folder / DESCRIPTION)


def _clear(folder: Path, made: Sequence[Path]) -> None:
    """Take away what was half written, and the folders that were `made` for it, the innermost first."""
    for name in (WEIGHTS, DESCRIPTION):
        for file in (folder / f"{name}.part", folder / name):
            with contextlib.suppress(OSError):
                file.unlink()
    for place in made:
        with contextlib.suppress(OSError):
            place.rmdir()


def read_folder(folder: Path) -> Folder:
    """Read a folder of ours whole; raises `PluginError` or `IntegrityError` where it is not what was written."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    said = _description(folder / DESCRIPTION)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise PluginError(f"{folder} holds {DESCRIPTION} but no {WEIGHTS}", "copy the folder again, with all its files")
    if _sha256(weights) != said["sha256"]:
        raise IntegrityError(
            f"{weights} is not the file that was written: its SHA-256 is not the one in {DESCRIPTION}",
            "copy the folder again from where it came",
        )
    try:
        tensors = load_file(weights)
    except SafetensorError as error:
        raise PluginError(f"{weights} is no safetensors file: {error}", "copy the folder again") from error
    return Folder(
        family=said["family"],
        config=said["config"],
        settings=said["settings"],
        tensors=tensors,
        origin=said["from"],
    )


def _description(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PluginError(
            f"{path.parent} holds no {DESCRIPTION}, so it is no checkpoint of superbench", "give another folder"
        ) from error
    except OSError as error:
        raise PluginError(f"{path} cannot be read: {error}", "check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        raise PluginError(f"{path} is no JSON: {error}", "copy the folder again") from error
    if not isinstance(said, dict) or "format" not in said:
        raise PluginError(f"{path} does not say which format it has", "copy the folder again")
    if said["format"] != FORMAT:
        raise PluginError(
            f"{path} is of format {shown(said['format'])}, and this superbench reads format {FORMAT}",
            "use the version of superbench that wrote it, or a newer one",
        )
    wrong = sorted(set(said) ^ set(FIELDS))
    kinds = {"family": str, "from": dict, "config": dict, "settings": dict, "sha256": str}
    wrong += [key for key, kind in kinds.items() if key in said and not isinstance(said[key], kind)]
    if wrong:
        raise PluginError(
            f"{path}: missing, unknown or of a wrong type: {listed(wrong)}",
            "copy the folder again as it was written",
        )
    return said


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
