"""Open what a run is about: the upstream by name and options, the corpus by one of its two doors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from superbench import corpus as corpora
from superbench.contracts import Corpus, Crop, Partition, Problem, Row
from superbench.errors import ContractError, DataError, UsageError
from superbench.features.extraction import LoadedUpstream, check_facts, plugin_guard, probe_hash
from superbench.features.identity import upstream_key
from superbench.labels import Labels
from superbench.loading import choose_device, open_unprobed
from superbench.manifest import read_manifests
from superbench.options import build_options
from superbench.plan import RunRequest
from superbench.plugin import TaskSpec
from superbench.recordings import KnownRecordings
from superbench.registry import Registry


def open_upstream(reference: str, registry: Registry, device: str = "auto") -> LoadedUpstream:
    """Load an upstream by name and options, check what it states, and find the key of its features."""
    spec, options, loaded = open_unprobed(reference, registry, choose_device(device))
    check_facts(loaded)
    key = upstream_key(spec, options, loaded)
    return replace(loaded, key=key, fingerprint=probe_hash(loaded, decimals=3))


@dataclass(frozen=True, kw_only=True)
class CheckedCorpus:
    """A corpus as read: usable iff `corpus` is there; `problems` holds everything found."""

    corpus: Corpus | None
    labels: Labels | None
    problems: tuple[Problem, ...]
    column: str
    utterances: int  # rows read
    options: Any  # of the task, filled from the request


def open_corpus(spec: TaskSpec, request: RunRequest, recordings: KnownRecordings | None = None) -> CheckedCorpus:
    """Read a corpus by one of its two doors and check all of it; nothing is left out in silence.

    Sound that `recordings` knows is not read again.
    """
    given = request.task_options(spec)
    options = build_options(spec.options, given, who=f"task {spec.name}")
    column = request.label_column or spec.column
    left_out = 0
    spelled = "lexicon" in given and spec.column != "text"  # references come from its words
    if spelled and request.label_column:
        raise UsageError("--lexicon looks the labels up, --label-column names a column of them", "give one of the two")
    manifests = request.manifests(spec.name)
    if manifests:
        known = "text" if spelled else column  # what the task completes from it needs no column of its own
        manifest = read_manifests(
            [Path(p) for p in manifests],
            column=known,
            label_column=request.label_column or None,
            root=Path(request.data_root) if request.data_root else None,
        )
        rows, roots, left_out = manifest.rows, manifest.roots, manifest.left_out
    else:
        root = _official_root(spec, request)
        assert spec.read is not None
        with plugin_guard(f"task {spec.name!r}"):
            rows = tuple(spec.read(root, options))
        roots = tuple(root / folder for folder in spec.folders) or (root,)
    with plugin_guard(f"task {spec.name!r}"):
        rows = tuple(spec.complete(rows, options))
    _refuse_odd_rows(rows, spec)
    recordings = recordings or KnownRecordings(None)
    feed: dict[str, Any] = {
        "rate": spec.protocol.sample_rate,
        "resample": request.resample,
        "gain_db": spec.protocol.gain_db,
    }
    corpus, labels, problems = corpora.check(
        replace(spec, labels=_guarded_labels(spec)),
        rows,
        column=column,
        inspect=functools.partial(recordings.inspect, **feed),
        recall=functools.partial(recordings.recall, **feed),
        roots=roots,
        official=not manifests,
        left_out=left_out,
    )
    return CheckedCorpus(
        corpus=corpus, labels=labels, problems=problems, column=column, utterances=len(rows), options=options
    )


def _guarded_labels(spec: TaskSpec) -> Callable[[Sequence[str], bool], Labels]:
    def labels(references: Sequence[str], official: bool) -> Labels:
        with plugin_guard(f"task {spec.name!r}"):
            found = spec.labels(references, official)
        lacking = [name for name in ("size", "names", "encode", "decode") if not hasattr(found, name)]
        if lacking:
            raise ContractError(
                f"labels of task {spec.name} returned {found!r:.80}, which has no {', '.join(lacking)}",
                "return a ClassLabels or a TokenLabels of superbench.labels",
            )
        if not all(isinstance(name, str) for name in found.names):
            raise ContractError(
                f"labels of task {spec.name} have names that are no texts: {found.names!r:.80}", "str(x)"
            )
        return found

    return labels


def _refuse_odd_rows(rows: Sequence[Row], spec: TaskSpec) -> None:
    """What a task's reader gives must be rows, their labels texts, and their crops crops."""
    for row in rows:
        if not isinstance(row, Row):
            raise ContractError(f"task {spec.name} gives {row!r:.80} in place of a Row", "see superbench.plugin.Row")
        texts = {name: getattr(row, name) for name in ("id", "split", "fold", "speaker", "where")}
        odd = [name for name, value in texts.items() if not isinstance(value, str)]
        labelled = isinstance(row.labels, Mapping) and all(isinstance(v, str) for v in row.labels.values())
        odd += [] if labelled else ["labels"]
        odd += [] if isinstance(row.path, Path) else ["path"]
        odd += [name for name in ("start", "end") if not isinstance(getattr(row, name), int | float | None)]
        odd += [] if isinstance(row.crop, Crop | None) else ["crop"]
        if odd:
            faults = ", ".join(f"{name}={getattr(row, name)!r:.60}" for name in odd)
            raise ContractError(
                f"task {spec.name} gives a row {row.id!r:.60} with {faults}",
                "labels are texts, path is a Path, times are seconds, crop is a Crop: see superbench.plugin.Row",
            )


def _official_root(spec: TaskSpec, request: RunRequest) -> Path:
    given = request.corpus_root(spec.name)
    if not given:
        raise UsageError(
            f"task {spec.name}: no corpus was given",
            "use --corpus ROOT (the parent of the official folders) or --data MANIFEST.csv; "
            "`superbench corpus synthesize --out ROOT` makes a small one",
        )
    root = Path(given).expanduser().resolve()
    if spec.read is None:
        raise UsageError(f"task {spec.name} reads no official tree", "use --data MANIFEST.csv")
    absent = [f for f in spec.folders if not (root / f).is_dir()]
    if absent:
        raise DataError(
            f"task {spec.name}: {root} has no folder {', '.join(absent)}",
            "--corpus takes the PARENT of the official folders; --corpus TASK=ROOT overrides one",
        )
    return root


def divide(spec: TaskSpec, corpus: Corpus) -> tuple[Partition, ...]:
    """Train, dev and test, once or once per fold; what the task's own rule does wrong is its plugin's fault."""
    with plugin_guard(f"task {spec.name!r}"):
        return corpora.partitions(spec, corpus)


def require_corpus(checked: CheckedCorpus, task: str) -> tuple[Corpus, Labels]:
    """The corpus, or one error that lists everything wrong with it."""
    if checked.corpus is None or checked.labels is None:
        errors = [p for p in checked.problems if p.severity == "error"]
        listed = "\n  ".join(corpora.told(errors))
        raise DataError(
            f"the corpus of task {task} has {len(errors)} errors:\n  {listed}",
            "mend them all, then look again with `superbench corpus check` and the same options",
        )
    return checked.corpus, checked.labels
