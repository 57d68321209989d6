"""superbench from Python: the same nouns and the same pipeline as the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superbench.contracts import Result
from superbench.places import places

if TYPE_CHECKING:
    from superbench.features.extraction import LoadedUpstream
    from superbench.progress import Progress


def load_upstream(
    reference: str, *, tap: str = "hidden", device: str = "cpu", plugins: Sequence[str] = ()
) -> LoadedUpstream:
    """Load an upstream by "name:option=value". Call it with a list of float waves [n] to get one `Layers` each.

    `tap` names another of its outputs than its layers. `plugins` are what `-p` takes on the command line: a file, a
    module, or "no:NAME".
    """
    from superbench.features.extraction import open_tap
    from superbench.pipeline.opening import open_upstream
    from superbench.registry import Registry

    return open_tap(open_upstream(reference, Registry.load(plugins), device), tap)


def run(
    *,
    upstream: str,
    task: str,
    corpus: str | Path = "",
    data: str | Path | Sequence[str | Path] = (),
    seed: int = 0,
    home: str | Path | None = None,
    database: str | None = None,
    plugins: Sequence[str] = (),
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Score one upstream on one task with one seed, as `superbench run` does, and return its result.

    `corpus` is the parent of the official folders, `data` one or several CSV manifests. `options` are further fields of
    `superbench.plan.RunRequest`: `lr`, `steps`, `head`, `layers`, `limit`, `label_column`, `resample`, `lexicon`, ...
    Raises the kinds of `superbench.errors`. A finished run is read back, an interrupted one goes on. Listeners (the
    leaderboard) hear of the result; the first one that fails is raised when the result is safe on disk.
    """
    from superbench.options import build_options
    from superbench.pipeline import announce, run_all
    from superbench.pipeline.opening import open_upstream
    from superbench.pipeline.prepared import prepare_all
    from superbench.plan import RunRequest
    from superbench.progress import Progress
    from superbench.registry import Registry

    manifests = [data] if isinstance(data, str | Path) else list(data)
    given = {
        "upstream": upstream,
        "task": (task,),
        "corpus": (str(corpus),) if str(corpus) else (),
        "data": tuple(str(d) for d in manifests),
        "seeds": (seed,),
    }
    lists = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    request = build_options(RunRequest, {**given, **lists}, who="superbench.run")
    settings = places(home)
    if database is not None:
        settings = replace(settings, database=database)
    registry = Registry.load(plugins)
    request.refuse_idle([registry.task(task).spec])
    loaded = open_upstream(upstream, registry, request.device)
    progress = progress or Progress()
    (results,) = run_all(prepare_all(request, registry, settings, loaded, progress), settings, progress)
    failures = announce(results, registry, settings)
    if failures:
        raise failures[0]
    return results[0]
