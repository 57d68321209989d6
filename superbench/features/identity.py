"""Which upstream is this, really? The key its features are kept under: content, never a path, name or index.

The key covers weights, options (a path counts by the bytes it leads to), the source that computes, the versions of the
libraries it names, dtype, device class, torch version and matmul precision.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from superbench.contracts import sha256_of
from superbench.features.extraction import LoadedUpstream, probe_hash
from superbench.plugin import UpstreamSpec

SCHEMA = 1  # of the stored features; another number is another key


def file_sha(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder by their relative names."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and ".git" not in p.parts)
        return sha256_of([[p.relative_to(path).as_posix(), file_sha(p)] for p in files])
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def module_sha(*modules: torch.nn.Module) -> str:
    """SHA-256 over names and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            if isinstance(tensor, torch.Tensor):
                digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _weights_sha(loaded: LoadedUpstream) -> str:
    """What the upstream says of its weights; else its torch modules; else its exact behaviour on the probe waves."""
    stated = getattr(loaded.upstream, "weights_sha", "")
    if stated:
        return str(stated)
    held = [loaded.upstream, *vars(loaded.upstream).values()] if hasattr(loaded.upstream, "__dict__") else []
    modules = [m for m in held if isinstance(m, torch.nn.Module)]
    return module_sha(*modules) if modules else "probe:" + probe_hash(loaded, decimals=None)


def _options_content(options: Any) -> dict[str, str]:
    content = {}
    for field in fields(options):
        value = getattr(options, field.name)
        path = Path(value) if isinstance(value, str | Path) and str(value) else None
        exists = path is not None and len(str(path)) < 4096 and path.exists()
        content[field.name] = "content:" + file_sha(path.resolve()) if path is not None and exists else repr(value)
    return content


def _source_sha(spec: UpstreamSpec) -> str:
    ours = ("superbench.audio", "superbench.features.extraction")
    texts = []
    for name in (spec.load.__module__, *spec.sources, *ours):
        module = sys.modules.get(name) or importlib.import_module(name)
        source = inspect.getsourcefile(module)
        texts.append(Path(source).read_bytes().hex() if source else name)
    return sha256_of(texts)


def upstream_key(spec: UpstreamSpec, options: Any, loaded: LoadedUpstream) -> str:
    """The store's key of one upstream as loaded on one kind of device."""
    device = torch.device(loaded.device).type
    return sha256_of(
        {
            "schema": SCHEMA,
            "weights": _weights_sha(loaded),
            "options": _options_content(options),
            "source": _source_sha(spec),
            "distributions": {d: importlib.metadata.version(d) for d in spec.distributions},
            "dtype": "float32",
            "device": device if device == "cpu" else f"{device}:{torch.cuda.get_device_name()}",
            "torch": torch.__version__,
            "matmul": torch.get_float32_matmul_precision(),
            "exactness": "one segment at a time",
        }
    )
