"""`superbench run` and `superbench plan`: the main job, and what it would do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from superbench import strict_yaml
from superbench.cli.output import echo_json, echo_table
from superbench.contracts import Result, Score
from superbench.errors import SuperbenchError, UsageError
from superbench.options import build_options
from superbench.places import places
from superbench.plan import RunRequest
from superbench.registry import Registry
from superbench.session import Session

PLACES = {"disk": "on the disk", "memory": "in memory", "streamed": "streamed"}

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = (
    click.option("-u", "--upstream", metavar="NAME[:OPTION=VALUE,...]", help="Which encoder: see `superbench list`."),
    click.option("-t", "--task", multiple=True, metavar="NAME", help="Task, several (ks,sid or repeated), or all."),
    click.option("--corpus", multiple=True, metavar="ROOT|TASK=ROOT", help="Parent of the official folders."),
    click.option("--data", multiple=True, metavar="CSV|TASK=CSV", help="CSV manifest; several are one corpus."),
    click.option("--data-root", default="", metavar="DIR", help="What the paths in CSV manifests are relative to."),
    click.option(
        "--label-column", default="", metavar="NAME", help="Column of the labels; rows empty there are left out."
    ),
    click.option("--resample", is_flag=True, help="Allow recordings of other rates."),
    click.option(
        "--lexicon",
        multiple=True,
        metavar="PATH|TASK=PATH",
        help="PR: pronunciations (CMUdict or LibriSpeech format). ASR with --lm: spellings (HI H I |).",
    ),
    click.option("--lm", default="", metavar="PATH", help="ASR: decode with this n-gram model (ARPA, KenLM) as well."),
    click.option("--meta", default="", metavar="DIR", help="ER: folder of lists that divide the sessions, as s3prl's."),
    click.option("--lr", multiple=True, metavar="LR[,LR...]", help="Learning-rate grid in place of the protocol's."),
    click.option("--seeds", multiple=True, metavar="N[,N...]|A..B", help="Seeds; one row each.  [0]"),
    click.option("--steps", type=int, metavar="N", help="Optimiser steps in place of the protocol's."),
    click.option("--eval-every", type=int, metavar="N", help="Steps between evaluations on dev."),
    click.option("--limit", type=int, metavar="N", help="At most N utterances per split."),
    click.option("--layers", type=int, metavar="N", help="Score layer N alone, not the weighted sum of all."),
    click.option("--head", default="", metavar="NAME[:OPTION=VALUE,...]", help="Head in place of the protocol's."),
    click.option("--device", default="auto", metavar="DEVICE", help="cpu, cuda, cuda:1 or auto.  [auto]"),
    click.option("--score-train", is_flag=True, help="Score the training set too."),
    click.option(
        "--store",
        default="auto",
        metavar="auto|frames|pooled|off",
        help="Features to store: auto: time means, and frames that fit on the disk; pooled: time means alone; frames: "
        "refuse what does not fit; off: none. The rest is kept in memory, or computed as it is wanted.  [auto]",
    ),
    click.option(
        "--store-dtype",
        default="float32",
        metavar="DTYPE",
        help="Of stored frames: float32, float16, bfloat16, int8. Time means are float32.",
    ),
    click.option(
        "--precision", default="float32", metavar="DTYPE", help="Of training: float32, float64 or bfloat16 (mixed)."
    ),
    click.option("--reread", is_flag=True, help="Read every recording again, though it is unchanged since last time."),
    click.option(
        "--memory",
        default="4GiB",
        metavar="SIZE",
        help="For features, in private memory. With little of it fewer utterances are trained on at a time, and "
        "scores move by rounding.  [4GiB]",
    ),
    click.option("--config", type=click.Path(path_type=Path), metavar="YAML", help="A file that holds these options."),
)


def request_options(command: Command) -> Command:
    """Add the options that make a `RunRequest`."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def numbers(texts: Sequence[str], kind: type, name: str) -> tuple[Any, ...]:
    """Numbers of "1e-3,1e-4" or, for integers, "0..4"; several texts are one list."""
    found: list[Any] = []
    for text in (part.strip() for given in texts for part in given.split(",")):
        first, dots, last = text.partition("..")
        try:
            found += range(int(first), int(last) + 1) if kind is int and dots else [kind(text)]
        except ValueError as exc:
            raise UsageError(f"{name}: {text!r} is no number", f"for example {name} 1e-3,1e-4 or --seeds 0..4") from exc
    return tuple(found)


def make_request(context: click.Context, registry: Registry, config: Path | None, given: dict[str, Any]) -> RunRequest:
    """Options over the configuration file over the defaults, checked together."""
    known = {f.name for f in fields(RunRequest)}
    merged: dict[str, Any] = {}
    if config is not None:
        try:
            loaded = strict_yaml.load(config.read_text(encoding="utf-8"), where=str(config))
        except (OSError, UnicodeDecodeError) as exc:
            raise UsageError(f"--config {config} cannot be read: {exc}", "give the path of a YAML file") from exc
        if not isinstance(loaded, dict):
            raise UsageError(f"{config} holds no options", "write one option per line, such as `upstream: fbank`")
        strict_yaml.check_keys(loaded, known, where=str(config))
        lists = {f.name for f in fields(RunRequest) if str(f.type).startswith("tuple")}
        merged = {k: ((v,) if not isinstance(v, list) else tuple(v)) if k in lists else v for k, v in loaded.items()}
    for name, value in given.items():
        if context.get_parameter_source(name) == ParameterSource.DEFAULT:
            continue
        merged[name] = value
    merged |= {"memory": str(merged["memory"])} if "memory" in merged else {}  # a plain number in YAML
    merged["lr"] = numbers([str(x) for x in merged.get("lr", ())], float, "--lr")
    merged["seeds"] = numbers([str(x) for x in merged.get("seeds", ("0",))], int, "--seeds")
    tasks = [t.strip() for text in merged.get("task", ()) for t in str(text).split(",") if t.strip()]
    merged["task"] = tuple(dict.fromkeys(registry.tasks if "all" in tasks else tasks))
    if not merged.get("upstream"):
        raise UsageError("no upstream was given", f"use --upstream NAME; there is: {', '.join(registry.upstreams)}")
    if not merged["task"]:
        raise UsageError("no task was given", f"use --task NAME or --task all; there is: {', '.join(registry.tasks)}")
    for task in merged["task"]:
        registry.task(task)
    request: RunRequest = build_options(RunRequest, merged, who="run")
    for task in request.named_tasks:
        registry.task(task)
    request.refuse_idle([registry.task(task).spec for task in request.task])
    return request


@click.command()
@request_options
@click.option("--out", metavar="DIR", help="Where run folders go.  [env: SUPERBENCH_RUNS; HOME/runs]")
@click.option("--json", "as_json", is_flag=True, help="Results as JSON.")
@click.pass_context
def run(context: click.Context, /, config: Path | None, out: str | None, as_json: bool, **given: Any) -> int:
    """Score an upstream on tasks: extract its features once, train the head, score test, keep the row.

    \b
    superbench run -u fbank_no_cmvn -t ks,sid --corpus ROOT
    superbench run -u huggingface:checkpoint=PATH -t asr --corpus ROOT --lr 1e-3,1e-4 --steps 2000
    superbench run -p mine.py -u mine -t er --data emodb.csv --label-column label4 --resample
    """
    session: Session = context.obj
    settings = replace(session.settings, runs=places(runs=out).runs) if out else session.settings
    request = make_request(context, session.registry, config, given)
    from superbench.pipeline import announce, run_all
    from superbench.pipeline.opening import open_upstream
    from superbench.pipeline.prepared import prepare_all

    loaded = open_upstream(request.upstream, session.registry, request.device)
    session.progress.say(f"{loaded.name}: {loaded.layers} layer{'s' * (loaded.layers > 1)}, on {loaded.device}")
    prepared = prepare_all(request, session.registry, settings, loaded, session.progress)
    results: list[Result] = []
    failures: list[SuperbenchError] = []
    for finished in run_all(prepared, settings, session.progress):
        failures += announce(finished, session.registry, settings)
        results += finished
    if as_json:
        echo_json([r.to_json() for r in results])
    else:
        show_results(results)
    for failure in failures:
        click.echo(f"error: {failure}\n  the results themselves are kept in {settings.runs}", err=True)
    return failures[0].exit_code if failures else 0


def percent(score: Score) -> str:
    """A score as people read it, with its counts: 12.34 % (123/997)."""
    numerator = f"{score.numerator:g}" if score.numerator == int(score.numerator) else f"{score.numerator:.4f}"
    return f"{100 * score.value:.2f} % ({numerator}/{score.denominator})"


def show_results(results: Sequence[Result]) -> None:
    """One row per result: what was chosen on dev, and what came out on test."""
    rows = []
    for r in results:
        lr = f"{r.lr:g}" if r.lr is not None else "per fold"
        test = ", ".join(f"{s.metric} {percent(s)}" for s in r.scores)
        train = f"; train {r.train_scores[0].metric} {percent(r.train_scores[0])}" if r.train_scores else ""
        dev = f"{r.dev_scores[0].metric} {100 * r.dev_scores[0].value:.2f} %"
        rows.append((r.task, r.upstream, r.head, r.layers, lr, str(r.seed), dev, test + train, r.label))
    columns = ("task", "upstream", "head", "layers", "lr", "seed", "dev", "test", "label")
    echo_table("results", columns, rows)


@click.command()
@request_options
@click.option("--yaml", "as_yaml", is_flag=True, help="The request as a file for --config.")
@click.option("--json", "as_json", is_flag=True, help="The resolved plans as JSON.")
@click.pass_context
def plan(context: click.Context, /, config: Path | None, as_yaml: bool, as_json: bool, **given: Any) -> None:
    """Say what `run` would do with the same options: checks, passes, bytes and time.

    Nothing is computed or kept, but what was found in recordings is remembered.
    """
    session: Session = context.obj
    request = make_request(context, session.registry, config, given)
    if as_yaml:
        defaults = {f.name: f.default for f in fields(request) if f.default is not MISSING}
        chosen = {k: v for k, v in asdict(request).items() if k not in defaults or v != defaults[k]}
        click.echo(strict_yaml.dump({k: list(v) if isinstance(v, tuple) else v for k, v in chosen.items()}), nl=False)
        return
    from superbench.features.stored_forms import told_cost
    from superbench.pipeline.estimate import estimate_all
    from superbench.pipeline.opening import open_upstream
    from superbench.pipeline.prepared import prepare_all
    from superbench.progress import duration
    from superbench.sizes import said_bytes

    loaded = open_upstream(request.upstream, session.registry, request.device)
    prepared = prepare_all(request, session.registry, session.settings, loaded, session.progress)
    found = list(zip(prepared, estimate_all(prepared), strict=True))
    if as_json:
        echo_json([{"plan": p.plan.to_json(), "fingerprint": p.plan.fingerprint, **asdict(e)} for p, e in found])
        return
    rows = [
        (
            p.plan.task,
            p.plan.head,
            f"{e.form}, {e.layers} layers",
            f"{e.segments} ({e.encodings} to compute)",
            said_bytes(e.bytes),
            duration(e.extract_seconds),
            f"{e.candidates} x {p.plan.protocol.steps} steps",
            duration(e.train_seconds),
            str(p.folder),
        )
        for p, e in found
    ]
    columns = (
        "task",
        "head",
        "features",
        "upstream passes",
        "bytes",
        "extraction",
        "training",
        "training time",
        "folder",
    )
    echo_table(f"plan for {loaded.name} on {loaded.device}", columns, rows)
    for p, e in found:
        room = f"; {said_bytes(e.disk_bytes)} to write, {said_bytes(e.disk_room)} free" if e.where == "disk" else ""
        click.echo(f"{p.plan.task}: features {PLACES[e.where]} ({e.why}{room}): {e.passes}")
        if cost := told_cost(e.form, p.plan.task):
            click.echo(f"{p.plan.task}: {e.form}: {cost}")
    for p, _ in found:
        click.echo(f"{p.plan.task} would be labelled {p.plan.label}:")
        for reason in p.plan.departures:
            click.echo(f"  - {reason}")
