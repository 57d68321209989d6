"""`superbench corpus`: look at a corpus before a run does. Plugins may put further commands here."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from superbench.cli.output import echo_json, echo_table
from superbench.errors import DataError, UsageError
from superbench.options import build_options
from superbench.plan import RunRequest
from superbench.protocol import check_protocol
from superbench.session import Session, pass_session

if TYPE_CHECKING:
    from superbench.vetting import Vetting


@click.group()
def corpus() -> None:
    """Check a corpus, or make one."""


@corpus.command()
@click.option("-t", "--task", "task", required=True, metavar="NAME", help="The task it is for.")
@click.option("--corpus", multiple=True, metavar="ROOT|TASK=ROOT", help="Parent of the official folders.")
@click.option("--data", multiple=True, metavar="CSV|TASK=CSV", help="CSV manifest; several are one corpus.")
@click.option("--data-root", default="", metavar="DIR", help="What the paths in CSV manifests are relative to.")
@click.option("--label-column", default="", metavar="NAME", help="Column of the labels; rows empty there are left out.")
@click.option("--resample", is_flag=True, help="Allow recordings of other rates.")
@click.option("--lexicon", multiple=True, metavar="PATH", help="Pronunciations for PR (CMUdict or LibriSpeech format).")
@click.option("--meta", default="", metavar="DIR", help="ER: folder of lists that divide the sessions, as s3prl's.")
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON.")
@click.argument("root", required=False)
@pass_session
def check(session: Session, /, *, task: str, root: str | None, as_json: bool, **given: Any) -> None:
    """Report everything wrong with a corpus at once: sound, ids, labels, splits, speakers. Exit code 3 on errors.

    Every recording is read, known or not.

    \b
    superbench corpus check --task asr ROOT
    superbench corpus check --task er --data emodb.csv --label-column label4 --resample
    """
    if root and (given["corpus"] or given["data"]):
        raise UsageError("give ROOT, --corpus or --data, not several of them", "see `superbench corpus check --help`")
    if root:
        given["corpus"] = (root,)
    request = build_options(RunRequest, {"upstream": "none", "task": (task,), **given}, who="corpus check")
    spec = session.registry.task(task).spec
    request.refuse_idle([spec])
    check_protocol(spec)
    from superbench.corpus import told
    from superbench.pipeline.opening import divide, open_corpus
    from superbench.recordings import KnownRecordings
    from superbench.vetting import vet

    with KnownRecordings(session.settings.recordings, reread=True, tell=session.progress.warn) as known:
        checked = open_corpus(spec, request, known)
    errors = [p for p in checked.problems if p.severity == "error"]
    warnings = [p for p in checked.problems if p.severity == "warning"]
    found = checked.corpus
    parts = divide(spec, found) if found else ()
    vetting = vet(found, spec.protocol) if found else None
    splits = [(p.name, len(p.train), len(p.dev), len(p.test)) for p in parts]
    if as_json:
        echo_json(
            {
                "task": task,
                "ok": found is not None,
                "rows": checked.utterances,
                "problems": [asdict(p) for p in checked.problems],
                "left_out": found.left_out if found else None,
                "hours": sum(u.seconds for u in found.utterances) / 3600 if found else None,
                "speakers": len({u.speaker for u in found.utterances if u.speaker}) if found else None,
                "classes": list(checked.labels.names) if checked.labels else None,
                "partitions": [dict(zip(("name", "train", "dev", "test"), s, strict=True)) for s in splits],
                "sha": found.sha if found else None,
                "vetting": asdict(vetting) if vetting else None,
            }
        )
    else:
        for line in told(checked.problems):
            click.echo(line)
        if found is not None and checked.labels is not None:
            hours = sum(u.seconds for u in found.utterances) / 3600
            recordings = len(found.items(range(len(found.utterances))))
            crops = f"{len(found.utterances)} with their crops, " if recordings < len(found.utterances) else ""
            click.echo(
                f"{task}: {recordings} utterances, {crops}{hours:.3f} h, "
                f"{len({u.speaker for u in found.utterances if u.speaker})} speakers, "
                f"{checked.labels.size} labels, {found.left_out} rows left out, hash {found.sha[:12]}"
            )
            rows = [tuple(str(x) for x in s) for s in splits]
            echo_table("partitions", ("name", "train", "dev", "test"), rows)
            if vetting is not None and vetting.verdict != "unknown":
                _show_vetting(vetting)
    if errors:
        raise DataError(
            f"{len(errors)} errors and {len(warnings)} warnings in {checked.utterances} rows of task {task}",
            "mend them all; a run refuses this corpus; --json lists each of them",
        )


def _show_vetting(vetting: Vetting) -> None:
    """Each part beside its official size, and what follows from the comparison."""
    rows = [
        (
            f.part,
            f"{f.utterances} of {f.official.utterances}",
            str(f.speakers) if f.official.speakers is None else f"{f.speakers} of {f.official.speakers}",
            f"{f.hours:.2f}" if f.official.hours is None else f"{f.hours:.2f} of {f.official.hours:g}",
            "; ".join(f.differences) or "as published",
        )
        for f in vetting.findings
    ]
    echo_table("official sizes", ("part", "recordings", "speakers", "hours", "finding"), rows)
    meaning = {
        "complete": "the sizes are the official ones",
        "partial": "a part of the official corpus: rows of it are custom",
        "wrong": "not the official corpus, though laid out like it: rows of it are custom",
    }
    click.echo(f"{vetting.verdict}: {meaning[vetting.verdict]}")
