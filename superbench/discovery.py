"""Where plugins are found: installed distributions, files and modules. Nothing is imported here before `bring`.

An installed distribution says in its entry_points.txt, which its pyproject.toml makes:

    [superbench]
    mine = my_package.my_module
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from superbench.contracts import Provenance
from superbench.errors import PluginError, UsageError, did_you_mean
from superbench.plugin import PROJECT

ENVIRONMENT = "SUPERBENCH_PLUGINS"
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A plugin that was found and is not imported yet; `provenance.plugin` is its name, unlike any other's."""

    provenance: Provenance
    origin: str  # distribution, path, or "MODULE": with the name, what it is the same as
    bring: Callable[[], object]  # imports it and returns the plugin, mostly a module
    argument: str = ""  # as typed after -p or in SUPERBENCH_PLUGINS
    blocked: bool = False


def find(plugins: Sequence[str], *, entry_points: bool) -> tuple[Found, ...]:
    """Installed plugins, then those of SUPERBENCH_PLUGINS, then `plugins`, in order.

    Raises `UsageError` for an argument that names nothing: no file, no module, or `no:NAME` without such a plugin.
    """
    asked = [(text, ENVIRONMENT) for text in _split_environment(os.environ.get(ENVIRONMENT, ""))]
    asked += [(text, "-p") for text in plugins]
    wanted = [_named(text, source) for text, source in asked if not text.startswith("no:")]
    found = _told_apart([*(_installed() if entry_points else []), *wanted])
    names = {one.provenance.plugin for one in found}
    blocked = {text.removeprefix("no:"): source for text, source in asked if text.startswith("no:")}
    for name, source in blocked.items():
        if name not in names:
            raise UsageError(f"{source} no:{name}: there is no plugin {name!r} to block", did_you_mean(name, names))
    return tuple(replace(one, blocked=one.provenance.plugin in blocked) for one in found)


def _split_environment(text: str) -> list[str]:
    """Cut at the path separator, but not within `no:NAME` where that separator is a colon."""
    pieces = (piece.strip() for piece in text.split(os.pathsep))
    return [f"no:{next(pieces, '')}" if piece == "no" else piece for piece in pieces if piece]


def _installed() -> list[Found]:
    """Entry points of the group: superbench's own first, then by distribution and name, so that strangers come later.

    They are read distribution by distribution, so that one with a malformed file hides no other.
    """
    found: dict[tuple[bool, str, str], Found] = {}
    for distribution in importlib.metadata.distributions():
        if f"[{PROJECT}]" not in (distribution.read_text("entry_points.txt") or ""):
            continue
        owner, version = distribution.metadata["Name"] or "unnamed", distribution.version or ""
        brings: dict[str, Callable[[], object]]
        try:
            brings = {entry.name: entry.load for entry in distribution.entry_points.select(group=PROJECT)}
        except (TypeError, ValueError) as problem:
            fault = PluginError(f"its entry_points.txt cannot be read: {problem}", "write NAME = MODULE in each line")
            brings = {owner: functools.partial(_refuse, fault)}
        for name, bring in brings.items():
            who = Provenance(plugin=name, distribution=owner, version=version)
            # setdefault: of two copies of a distribution, the first on sys.path is the one that is imported
            found.setdefault((owner != PROJECT, owner, name), Found(provenance=who, origin=owner, bring=bring))
    return [found[key] for key in sorted(found)]


def _refuse(fault: PluginError) -> object:
    raise fault


def _named(text: str, source: str) -> Found:
    """The file or module that an argument names; `source` is where it was typed."""
    if text.endswith(".py") or "/" in text or os.sep in text:
        return _named_file(text, source)
    if not _MODULE.fullmatch(text):
        raise UsageError(f"{source} {text}: neither a file nor a module", "name FILE.py, MODULE or no:NAME")
    top = text.partition(".")[0]
    if top not in sys.modules and importlib.util.find_spec(top) is None:
        hint = "install it, or put its folder on PYTHONPATH"
        if Path(f"{text}.py").exists():
            hint = f"for the file in this folder, write {text}.py"
        raise UsageError(f"{source} {text}: there is no module {top!r} to import", hint)
    bring = functools.partial(importlib.import_module, text)
    return Found(provenance=Provenance(plugin=text), origin="MODULE", bring=bring, argument=text)


def _named_file(text: str, source: str) -> Found:
    path = Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100  resolve() would lose a link's own name
    if path.is_dir():
        raise UsageError(f"{source} {text}: this is a folder", "name one file, FILE.py, or an importable MODULE")
    if not path.exists():
        raise UsageError(f"{source} {text}: there is no such file", f"looked for {path}")
    if path.suffix != ".py":
        raise UsageError(f"{source} {text}: a plugin file ends in .py", "name FILE.py, or an importable MODULE")
    who = Provenance(plugin=path.stem, file=str(path))
    return Found(provenance=who, origin=str(path), bring=functools.partial(_execute, path), argument=text)


def _told_apart(found: Iterable[Found]) -> list[Found]:
    """Once each, though asked for twice; of two with one name, the later is called NAME@ORIGIN."""
    named: dict[str, Found] = {}
    seen: set[tuple[str, str]] = set()
    for one in found:
        name = one.provenance.plugin
        if (name, one.origin) in seen:
            continue
        seen.add((name, one.origin))
        if name in named:
            name = f"{name}@{one.origin}"
        named[name] = replace(one, provenance=replace(one.provenance, plugin=name))
    return list(named.values())


def _execute(path: Path) -> ModuleType:
    """Run a plugin file as a module of its own; nothing is written beside it.

    The module's name holds a hash of path and text: dataclasses, pydantic and pickle find it in `sys.modules`, two
    files of one name stay apart, and a file that was changed is a new module.
    """
    text = path.read_bytes()
    stem = re.sub(r"\W", "_", path.stem)
    name = f"{PROJECT}_file_{stem}_{hashlib.sha256(os.fsencode(path) + text).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    whole = False
    try:
        exec(compile(text, str(path), "exec", dont_inherit=True), module.__dict__)
        whole = True
    except ModuleNotFoundError as problem:
        if (path.parent / f"{problem.name}.py").exists():
            hint = f"it lies beside the plugin: set PYTHONPATH={path.parent}"
            raise PluginError(f"the module {problem.name!r} is not on the path", hint) from problem
        raise
    finally:
        if not whole:
            del sys.modules[name]
    return module
