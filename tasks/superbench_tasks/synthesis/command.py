"""`superbench corpus synthesize`: make the synthetic corpus."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("synthesize")
@click.option("--out", "root", metavar="ROOT", type=click.Path(path_type=Path), required=True, help="A new folder.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Other sentences, other noise.")
@click.option(
    "--size", default="small", show_default=True, help="small: about 1,250 recordings; tiny: a tenth, for tests."
)
def synthesize(root: Path, seed: int, size: str) -> None:
    """Make a small five-task corpus with a speech synthesiser.

    It is laid out as LibriSpeech, Speech Commands, VoxCeleb1 and IEMOCAP, so that every task reads it with
    `--corpus ROOT`. It shows that things work, never how good an encoder is. The same seed gives the same bytes.
    """
    from superbench.progress import Progress
    from superbench.session import Session
    from superbench_tasks.synthesis.layouts import plan
    from superbench_tasks.synthesis.sizes import SIZES
    from superbench_tasks.synthesis.trees import corpus_settings, holds, synthesize_corpus

    if holds(root, corpus_settings(seed=seed, size=size)):
        click.echo(f"{root} is up to date")
        return
    session = click.get_current_context().find_object(Session)
    report = session.progress if session else Progress()
    with report.stage("synthesizing", sum(tree.recordings for tree in plan(seed, SIZES[size]))) as bar:
        so_far = 0

        def show(tree: str, done: int, _total: int) -> None:
            nonlocal so_far
            bar.advance(done - so_far, tree)
            so_far = done

        synthesize_corpus(root, seed=seed, size=size, progress=show)
    click.echo(f"{root}: a synthetic corpus of size {size}, seed {seed}")
    click.echo(f"read it with --corpus {root}; the lexicon for pr is {root / 'lexicon.txt'}")
