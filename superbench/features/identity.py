"""Which upstream is this, really? The key its features are kept under: content, not a path or an index.

The key covers weights, options (a path counts by the bytes it leads to), the source that computes, the versions of the
libraries it names, dtype, device class, torch version, matmul precision and the rule by which batches are formed.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import inspect
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from superbench.contracts import sha256_of
from superbench.features.batching import batching_rule
from superbench.features.extraction import LoadedUpstream, probe_hash
from superbench.plugin import UpstreamSpec

SCHEMA = 2  # of the stored features; another number is another key


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


def _weights_sha(loaded: LoadedUpstream) -> list[str]:
    """What the upstream says of its weights; else the torch modules it holds, and its behaviour on the probe waves.

    Weights can hide anywhere in a stranger's object; what it does with them cannot.
    """
    stated = getattr(loaded.upstream, "weights_sha", "")
    if stated:
        return [str(stated)]
    held = [loaded.upstream, *vars(loaded.upstream).values()] if hasattr(loaded.upstream, "__dict__") else []
    modules = [m for m in held if isinstance(m, torch.nn.Module)]
    return [module_sha(*modules), probe_hash(loaded, decimals=None)]


def source_of(function: Any) -> tuple[str, list[str]]:
    """The module of a function, and which function of it: its name, and the arguments a `partial` binds."""
    said: list[str] = []
    while isinstance(function, functools.partial):
        said.append(repr((function.args, sorted(function.keywords.items()))))
        function = function.func
    said.append(getattr(function, "__qualname__", type(function).__qualname__))
    return getattr(function, "__module__", type(function).__module__), said


def code_sha(*modules: str, without: tuple[str, ...] = ()) -> str:
    """SHA-256 of what some modules' source says to the interpreter: without comments, docstrings and layout.

    A top-level package stands for all its modules but those whose place in it begins with one of `without`; any other
    name for its one file.
    """
    found: list[list[list[str]]] = []
    for name in modules:
        module = sys.modules.get(name) or importlib.import_module(name)
        source = inspect.getsourcefile(module)
        folder = Path(source).parent if source and "." not in name and source.endswith("__init__.py") else None
        files = sorted(folder.rglob("*.py")) if folder else [Path(source)] if source else []
        places = {(f.relative_to(folder).as_posix() if folder else ""): f for f in files}
        inside = {place: f.read_text(encoding="utf-8") for place, f in places.items() if not place.startswith(without)}
        found.append([[place, _meaning(text)] for place, text in inside.items()] or [[name]])
    return sha256_of(sorted(found))


@functools.cache
def _meaning(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return ast.dump(tree)


def _options_content(options: Any) -> dict[str, str]:
    content = {}
    for field in fields(options):
        value = getattr(options, field.name)
        there = isinstance(value, str | Path) and os.path.exists(value)  # noqa: PTH110 - Path's raises for long text
        content[field.name] = "content:" + file_sha(Path(value).resolve()) if there else repr(value)
    return content


def _source_sha(spec: UpstreamSpec) -> str:
    """The files that compute, and which function in them loads: two in one file give other features."""
    module, said = source_of(spec.load)
    stage = "superbench.features"
    rooms = ("batching", "encoding", "extraction", "passes", "reduction")
    ours = ("superbench.audio", *(f"{stage}.{room}" for room in rooms))
    return sha256_of([said, code_sha(module, *spec.sources, *ours)])


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
            "device": device if device == "cpu" else f"{device}:{torch.cuda.get_device_name(loaded.device)}",
            "torch": torch.__version__,
            "matmul": torch.get_float32_matmul_precision(),
            "exactness": batching_rule(loaded),
        }
    )
