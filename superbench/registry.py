"""Who came in by the door, and what they brought.

Plugins come from installed distributions (entry-point group `superbench`), from the environment variable
SUPERBENCH_PLUGINS (split at the platform's path separator) and from `-p`, in this order. Each is let in under its own
guard, whole or not at all: one that cannot be imported, that misspells a hook, or that brings a wrong thing or a taken
name stays in the list with its error, and all the others work. What a plugin prints on the way goes to stderr.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import click
import pluggy

from superbench.contracts import Provenance, Result, Settings
from superbench.discovery import Found, find
from superbench.errors import PluginError, SuperbenchError, UsageError, did_you_mean
from superbench.plugin import (
    PROJECT,
    CommandSpec,
    DownstreamSpec,
    Hooks,
    RecipeSpec,
    TaskProtocol,
    TaskSpec,
    UpstreamSpec,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Registered(Generic[T]):
    """A spec, and who brought it."""

    spec: T
    provenance: Provenance


@dataclass(frozen=True, kw_only=True)
class PluginRecord:
    """One plugin, as the list of plugins shows it."""

    provenance: Provenance
    argument: str = ""  # what was typed after `-p` or in SUPERBENCH_PLUGINS; empty for an entry point
    brings: tuple[str, ...] = ()  # "upstream fbank", "command corpus import", "listener leaderboard"
    error: str = ""  # empty when all is well
    traceback: str = ""
    blocked: bool = False


@dataclass(frozen=True, kw_only=True)
class Registry:
    """Everything that plugins brought, by name and in the order it came."""

    upstreams: Mapping[str, Registered[UpstreamSpec]] = field(default_factory=dict)
    downstreams: Mapping[str, Registered[DownstreamSpec]] = field(default_factory=dict)
    tasks: Mapping[str, Registered[TaskSpec]] = field(default_factory=dict)
    recipes: Mapping[str, Registered[RecipeSpec]] = field(default_factory=dict)
    commands: Sequence[Registered[CommandSpec]] = ()
    listeners: Sequence[Registered[Callable[[Result, Settings], None]]] = ()
    records: tuple[PluginRecord, ...] = ()

    @classmethod
    def load(cls, plugins: Sequence[str] = (), *, entry_points: bool = True) -> Registry:
        """Let in the installed plugins, then those of SUPERBENCH_PLUGINS, then `plugins`, in order.

        `plugins` are what `-p` takes: FILE.py, a dotted MODULE, or `no:NAME`, which blocks the plugin of that name
        wherever it stands. Raises `UsageError` for an argument that names nothing; a plugin that is found but broken
        raises nothing: see `records` and `raise_if_broken`.

        May be called again and again. A file is executed once per process for as long as its text is the same; after
        a change it is executed anew, as a new module.
        """
        door = _Door()
        for found in find(plugins, entry_points=entry_points):
            door.admit(found)
        return cls(
            upstreams=door.kept("upstream"),
            downstreams=door.kept("downstream"),
            tasks=door.kept("task"),
            recipes=door.kept("recipe"),
            commands=tuple(door.kept("command").values()),
            listeners=tuple(door.kept("listener").values()),
            records=tuple(door.records),
        )

    def upstream(self, name: str) -> Registered[UpstreamSpec]:
        """The upstream of that name; raises `UsageError` with near names where there is none."""
        return self._find("upstream", self.upstreams, name)

    def downstream(self, name: str) -> Registered[DownstreamSpec]:
        """The downstream of that name; raises `UsageError` with near names where there is none."""
        return self._find("downstream", self.downstreams, name)

    def task(self, name: str) -> Registered[TaskSpec]:
        """The task of that name; raises `UsageError` with near names where there is none."""
        return self._find("task", self.tasks, name)

    def recipe(self, name: str) -> Registered[RecipeSpec]:
        """The recipe of that name; raises `UsageError` with near names where there is none."""
        return self._find("recipe", self.recipes, name)

    def raise_if_broken(self, names: Iterable[str]) -> None:
        """Raise `PluginError` with what is wrong, if any of `names` (plugin names, or arguments of `-p`) is broken."""
        wanted = set(names)
        broken = [r for r in self.records if r.error and wanted & {r.provenance.plugin, r.argument}]
        if broken:
            lines = "\n".join(f"plugin {record.provenance} is broken: {record.error}" for record in broken)
            raise PluginError(lines, "mend it, or leave it out")

    def announce(self, result: Result, settings: Settings) -> tuple[SuperbenchError, ...]:
        """Tell every listener of a finished run, in the order they came, and return what went wrong.

        A listener that fails keeps nobody else from hearing. Its `SuperbenchError` is returned as it is; anything else
        becomes a `PluginError` that names the plugin, with the original as its cause.
        """
        faults: list[SuperbenchError] = []
        for listener in self.listeners:
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    listener.spec(result, settings)
            except SuperbenchError as problem:
                faults.append(problem)
            except (Exception, SystemExit) as problem:  # noqa: BLE001  a stranger's code; reported, the run is safe
                message = f"plugin {listener.provenance} failed when it heard of a result: {_say(problem)}"
                fault = PluginError(message, f"the result itself is safe in {result.folder}")
                fault.__cause__ = problem
                faults.append(fault)
        return tuple(faults)

    def _find(self, noun: str, things: Mapping[str, Registered[T]], name: str) -> Registered[T]:
        """Raises `UsageError`, or `PluginError` where a broken plugin may have brought what is asked for."""
        if name in things:
            return things[name]
        hints = [did_you_mean(name, things)]
        for record in self.records:
            if record.error:
                hints.append(f"plugin {record.provenance} is broken, and may have brought it: {record.error}")
            elif record.blocked:
                hints.append(f"plugin {record.provenance} is blocked, and may have brought it")
        broken = any(record.error for record in self.records)
        kind = PluginError if broken else UsageError  # the fault may well be the plugin's
        raise kind(f"there is no {noun} {name!r}", "\n  ".join(hints))


# -- the door ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Kind:
    noun: str
    spec: type
    calls: tuple[str, ...] = ()  # fields that must be callable


_HOOKS: Mapping[str, tuple[str, ...]] = {  # the arguments of each hook, without self
    name: tuple(inspect.signature(hook).parameters)[1:]
    for name, hook in vars(Hooks).items()
    if name.startswith(f"{PROJECT}_")
}
_KINDS = {
    "superbench_upstreams": _Kind(noun="upstream", spec=UpstreamSpec, calls=("load",)),
    "superbench_downstreams": _Kind(noun="downstream", spec=DownstreamSpec, calls=("build",)),
    "superbench_tasks": _Kind(noun="task", spec=TaskSpec, calls=("labels", "complete")),
    "superbench_recipes": _Kind(noun="recipe", spec=RecipeSpec, calls=("train",)),
    "superbench_commands": _Kind(noun="command", spec=CommandSpec),
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")  # stands in references, folder names and tables


class _Door:
    """Lets plugins in one by one, whole or not at all."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(Hooks)
        self.things: dict[tuple[str, str], Registered[Any]] = {}  # by noun and name
        self.records: list[PluginRecord] = []

    def kept(self, noun: str) -> Mapping[str, Registered[Any]]:
        """What came in under a noun, by name."""
        return MappingProxyType({name: thing for (kind, name), thing in self.things.items() if kind == noun})

    def admit(self, found: Found) -> None:
        """Import, register and hear one plugin, and keep a record of how that went."""
        who = found.provenance
        record = PluginRecord(provenance=who, argument=found.argument, blocked=found.blocked)
        try:
            if not found.blocked:
                with contextlib.redirect_stdout(sys.stderr):
                    plugin = found.bring()
                    if found.argument and self.manager.is_registered(plugin):
                        return  # asked for, but an entry point brought it already
                    file = who.file or str(getattr(inspect.getmodule(plugin), "__file__", None) or "")
                    record = replace(record, provenance=replace(who, file=file))
                    self.register(plugin, who.plugin)
                    fresh = self.collect(plugin, record.provenance)
                self.things.update(fresh)
                record = replace(record, brings=tuple(" ".join(key) for key in fresh))
        except (Exception, SystemExit) as problem:  # noqa: BLE001  a stranger's code; kept in the record
            if self.manager.has_plugin(who.plugin):
                self.manager.unregister(name=who.plugin)
            record = replace(record, error=_say(problem), traceback="".join(traceback.format_exception(problem)))
        self.records.append(record)

    def register(self, plugin: object, name: str) -> None:
        """Hand it to pluggy; raises `PluginError` where its hooks are not ours."""
        marks = {at: opts for at in dir(plugin) if (opts := self.manager.parse_hookimpl_opts(plugin, at)) is not None}
        unmarked = [hook for hook in _HOOKS if hook not in marks and callable(getattr(plugin, hook, None))]
        if unmarked or not marks:
            what = f"{', '.join(unmarked)} is not marked @hookimpl" if unmarked else "no function is marked @hookimpl"
            raise PluginError(what, "from superbench.plugin import hookimpl, and write @hookimpl above each hook")
        if self.manager.is_registered(plugin):
            raise PluginError(f"it came in as {self.manager.get_name(plugin)!r} already", "keep one entry point")
        try:
            self.manager.register(plugin, name=name)
            self.manager.check_pending()
        except pluggy.PluginValidationError as problem:
            for attribute, opts in marks.items():
                hook = opts.get("specname") or attribute
                if hook not in _HOOKS and not opts.get("optionalhook"):
                    raise PluginError(f"there is no hook {hook!r}", did_you_mean(hook, _HOOKS)) from problem
                for argument in inspect.signature(getattr(plugin, attribute)).parameters:
                    if argument not in _HOOKS.get(hook, (argument,)):
                        hint = did_you_mean(argument, _HOOKS[hook])
                        raise PluginError(f"the hook {hook!r} has no argument {argument!r}", hint) from problem
            raise PluginError(str(problem)) from problem

    def collect(self, plugin: object, who: Provenance) -> dict[tuple[str, str], Registered[Any]]:
        """All that the plugin brings, by noun and name; raises `PluginError` for a wrong thing or a taken name."""
        fresh: dict[tuple[str, str], Registered[Any]] = {}
        for hook in _HOOKS:
            for implementation in getattr(self.manager.hook, hook).get_hookimpls():
                if implementation.plugin is not plugin:
                    continue
                for noun, name, spec in _brought(hook, implementation):
                    holder = self.things.get((noun, name)) or fresh.get((noun, name))
                    if holder:
                        message = f"the {noun} {name!r} comes from {holder.provenance} and again from {who}"
                        raise PluginError(message, "rename one, or block one of the plugins with `-p no:NAME`")
                    fresh[noun, name] = Registered(spec, who)
        return fresh


def _brought(hook: str, implementation: pluggy.HookImpl) -> Iterator[tuple[str, str, object]]:
    """Noun, name and spec of everything one hook implementation brings."""
    if implementation.wrapper or implementation.hookwrapper:
        raise PluginError(f"{hook} is marked as a wrapper", "write a plain @hookimpl: hooks here are not wrapped")
    if hook == "superbench_result":

        def listen(result: Result, settings: Settings) -> None:
            known = {"result": result, "settings": settings}
            implementation.function(*(known[argument] for argument in implementation.argnames))

        yield "listener", implementation.plugin_name, listen
        return
    kind = _KINDS[hook]
    things = implementation.function()
    if not isinstance(things, Iterable):
        raise PluginError(f"{hook} returned {things!r:.100}", f"let it `yield {kind.spec.__name__}(...)`")
    for thing in things:
        spec = CommandSpec(command=thing) if isinstance(thing, click.Command) else thing
        if not isinstance(spec, kind.spec):
            raise PluginError(f"{hook} yielded {thing!r:.100}", f"let it `yield {kind.spec.__name__}(...)`")
        yield kind.noun, _vetted_name(kind, spec), spec


def _vetted_name(kind: _Kind, spec: Any) -> str:
    """The name of a spec, once its fields are what they must be; raises `PluginError`."""
    name = spec.name if kind.spec is not CommandSpec else getattr(spec.command, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        hint = "a letter first, then up to 99 letters, digits, '_', '-' or '.'"
        raise PluginError(f"a {kind.spec.__name__} has the name {name!r:.120}", hint)
    wrong = [call for call in kind.calls if not callable(getattr(spec, call))]
    match spec:
        case CommandSpec(command=command, under=under):
            wrong += ["command"] if not isinstance(command, click.Command) else []
            wrong += ["under"] if under != "" and not (isinstance(under, str) and _NAME.fullmatch(under)) else []
        case DownstreamSpec(reads=reads, gives=gives):
            wrong += ["reads"] if reads not in ("pooled", "frames") else []
            wrong += ["gives"] if gives not in ("utterance", "frames") else []
        case TaskSpec(protocol=protocol, speakers=speakers):
            wrong += ["protocol"] if not isinstance(protocol, TaskProtocol) else []
            wrong += ["speakers"] if speakers not in ("disjoint", "any") else []
            wrong += [at for at in ("version", "column", "summary") if not isinstance(getattr(spec, at), str)]
            optional = ("read", "partitions", "decoder", "deviations")
            wrong += [at for at in optional if getattr(spec, at) is not None and not callable(getattr(spec, at))]
    if wrong:
        faults = ", ".join(f"{at}={getattr(spec, at)!r:.60}" for at in wrong)
        raise PluginError(f"the {kind.noun} {name!r} has {faults}", f"see the fields of {kind.spec.__name__}")
    options = getattr(spec, "options", None)
    if kind.spec is not CommandSpec and not _is_frozen_dataclass(options):
        raise PluginError(
            f"the options of {kind.noun} {name!r} are {options!r:.80}, not a frozen dataclass",
            "write `@dataclass(frozen=True)` above `class Options`, and give options=Options, the class itself",
        )
    return f"{spec.under} {name}".strip() if kind.spec is CommandSpec else name


def _is_frozen_dataclass(kind: object) -> bool:
    return isinstance(kind, type) and is_dataclass(kind) and bool(getattr(kind, "__dataclass_params__").frozen)  # noqa: B009


def _say(problem: BaseException) -> str:
    """What went wrong, in a line a user can act on."""
    if isinstance(problem, SuperbenchError):
        return str(problem)
    if isinstance(problem, SystemExit):
        return f"it called sys.exit({problem.code!r})"
    return f"{type(problem).__name__}: {problem}"
