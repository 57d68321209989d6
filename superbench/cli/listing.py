"""`superbench list`, `show`, `plugins` and `doctor`: what there is, what it is, and whether this machine is fit."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from superbench.cli.output import echo_json, echo_table
from superbench.errors import UsageError, did_you_mean
from superbench.options import describe_options
from superbench.registry import Registered
from superbench.session import Session, pass_session

KINDS = ("upstreams", "downstreams", "tasks", "recipes")


@click.command(name="list")
@click.argument("kind", required=False, type=click.Choice(KINDS))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_session
def list_(session: Session, /, *, kind: str | None, as_json: bool) -> None:
    """List upstreams, heads (downstreams), tasks and recipes, and who brought them."""
    kinds = (kind,) if kind else KINDS
    found = {
        k: [
            {"name": n, "summary": r.spec.summary, "brought_by": str(r.provenance)}
            for n, r in sorted(getattr(session.registry, k).items())
        ]
        for k in kinds
    }
    if as_json:
        echo_json(found)
        return
    for name, entries in found.items():
        if entries:
            rows = [(e["name"], e["summary"], e["brought_by"]) for e in entries]
            echo_table(name, ("name", "what it is", "brought by"), rows)
    _tell_broken(session)


def _tell_broken(session: Session) -> None:
    for record in session.registry.records:
        if record.error:
            click.echo(f"broken plugin {record.provenance}: {record.error}", err=True)


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_session
def show(session: Session, /, *, name: str, as_json: bool) -> None:
    """Show one upstream, head, task or recipe: its options, and for a task its whole protocol."""
    registry = session.registry
    found: list[tuple[str, Registered[Any]]] = [
        (kind.removesuffix("s"), getattr(registry, kind)[name]) for kind in KINDS if name in getattr(registry, kind)
    ]
    if not found:
        known = [n for kind in KINDS for n in getattr(registry, kind)]
        raise UsageError(f"nothing is called {name!r}", did_you_mean(name, known))
    for kind, entry in found:
        facts: dict[str, Any] = {
            "kind": kind,
            "name": name,
            "summary": entry.spec.summary,
            "brought_by": str(entry.provenance),
            "options": [asdict(o) for o in describe_options(entry.spec.options)],
        }
        if kind == "task":
            facts["version"] = entry.spec.version
            facts["reference"] = f"column {entry.spec.column!r}"
            facts["folders"] = list(entry.spec.folders)
            facts["speakers"] = entry.spec.speakers
            facts["protocol"] = asdict(entry.spec.protocol)
            facts["departures"] = [asdict(d) for d in entry.spec.departures]
        if kind == "downstream":
            facts["reads"], facts["gives"] = entry.spec.reads, entry.spec.gives
        if as_json:
            echo_json(facts)
            continue
        click.echo(f"{kind} {name}: {facts['summary']}\nbrought by {facts['brought_by']}")
        for fact in ("version", "reference", "folders", "speakers", "reads", "gives"):
            if fact in facts:
                click.echo(f"{fact}: {facts[fact]}")
        if "protocol" in facts:
            echo_table("protocol", ("constant", "value"), list(_constants(facts["protocol"])))
        for departure in facts.get("departures", ()):
            click.echo(f"departs on purpose: {departure['what']}")
            click.echo(f"  why: {departure['why']}\n  effect: {departure['effect']}")
        if facts["options"]:
            rows = [(o["name"], o["type"], o["default"]) for o in facts["options"]]
            echo_table(f"options of {name}", ("option", "type", "default"), rows)


def _constants(protocol: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every constant of a protocol on a line of its own, those of a part of it under its name."""
    for name, value in protocol.items():
        if isinstance(value, dict):
            yield from _constants(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
            for item in value:
                facts = {k: v for k, v in item.items() if v}
                yield f"{prefix}{name}", ", ".join(f"{k} {_written(v)}" for k, v in facts.items())
        else:
            yield f"{prefix}{name}", _written(value)


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(_written(v) if not isinstance(v, list | tuple) else "=".join(map(str, v)) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_session
def plugins(session: Session, /, *, as_json: bool) -> None:
    """List plugins: where each came from, what it brings, and what is wrong with it."""
    records = session.registry.records
    if as_json:
        echo_json([asdict(r) for r in records])
        return
    rows = [
        (
            r.provenance.plugin,
            f"{r.provenance.distribution} {r.provenance.version}".strip() or r.provenance.file,
            "blocked" if r.blocked else f"broken: {r.error}" if r.error else "ok",
            ", ".join(r.brings),
        )
        for r in records
    ]
    echo_table("plugins", ("plugin", "from", "state", "brings"), rows)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_session
def doctor(session: Session, /, *, as_json: bool) -> int:
    """Check this machine: libraries, torchaudio, device, folders, disk, plugins. Exit code 5 where one is wrong."""
    import torch

    from superbench import torchaudio_loader
    from superbench.environment import environment

    torchaudio = torchaudio_loader.load()
    native = getattr(torchaudio._extension, "_IS_TORCHAUDIO_EXT_AVAILABLE", False)
    facts = environment("cuda" if torch.cuda.is_available() else "cpu")
    checks: list[tuple[str, bool, str]] = [(name, True, version) for name, version in sorted(facts["versions"].items())]
    checks.append(("torchaudio library", True, "native" if native else "pure Python (enough for all we use)"))
    checks.append(("device", True, f"{facts['device']} ({facts['device_name']}), {facts['threads']} threads"))
    extras = {"huggingface upstream": "transformers", "corpus synthesize": "espeakng_loader", "asr --lm": "flashlight"}
    for what, module in extras.items():
        there = _importable(module)
        checks.append((what, True, "ready" if there else f"{module} is not installed"))
    for what, folder in (("store", session.settings.store), ("runs", session.settings.runs)):
        free = shutil.disk_usage(_existing(folder)).free
        checks.append((what, _writable(folder), f"{folder}, {free / 2**30:.1f} GiB free"))
    checks.append(("database", True, session.settings.database))
    for record in session.registry.records:
        checks.append((f"plugin {record.provenance.plugin}", not record.error, record.error or "ok"))
    if as_json:
        echo_json([{"what": w, "ok": ok, "finding": f} for w, ok, f in checks])
    else:
        echo_table("doctor", ("what", "", "finding"), [(w, "ok" if ok else "WRONG", f) for w, ok, f in checks])
    return 0 if all(ok for _, ok, _ in checks) else 5


def _importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _writable(folder: Path) -> bool:
    return os.access(_existing(folder), os.W_OK)


COMMANDS = (list_, show, plugins, doctor)
