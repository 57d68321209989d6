"""`superbench extract`: layer-wise features of sound files, as a NumPy archive."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from superbench.cli.output import echo_json
from superbench.errors import ResourceError, UsageError
from superbench.session import Session, pass_session


@click.command()
@click.option("-u", "--upstream", required=True, metavar="NAME[:OPTION=VALUE,...]", help="Which encoder.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="NPZ", help="The archive to write.")
@click.option("--tap", default="hidden", metavar="NAME", help="Which of its outputs: its layers by default.")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=1, help="Waves per call; must not matter.  [1]")
@click.option("--resample", is_flag=True, help="Allow recordings of other rates.")
@click.option("--device", default="auto", metavar="DEVICE", help="cpu, cuda, cuda:1 or auto.  [auto]")
@click.option("--json", "as_json", is_flag=True, help="What was written, as JSON.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@pass_session
def extract(
    session: Session,
    /,
    *,
    upstream: str,
    out: Path,
    tap: str,
    dtype: str,
    batch_size: int,
    resample: bool,
    device: str,
    as_json: bool,
    files: tuple[Path, ...],
) -> None:
    """Write the features of FILES: one array [L, T, D] under each file's stem.

    Where layers differ in frame rate or width there is one array [T, D] per layer, under STEM/0, STEM/1 and so on.
    What else an upstream can say beside its layers it names itself: `--tap` takes one of these. Codes are integers.
    """
    if out.suffix != ".npz" or out.is_dir():
        raise UsageError(
            f"--out {out} is {'a folder' if out.is_dir() else 'no name of an archive'}",
            "give a name that ends in .npz: nothing else is written over",
        )
    stems: dict[str, Path] = {}
    for file in files:
        if file.stem in stems:
            raise UsageError(
                f"{stems[file.stem]} and {file} have the same stem {file.stem!r}",
                "rename one of them, or write two archives",
            )
        stems[file.stem] = file
    import numpy as np

    from superbench.features.extraction import open_tap
    from superbench.pipeline.archive import extract_files
    from superbench.pipeline.opening import open_upstream

    loaded = open_tap(open_upstream(upstream, session.registry, device), tap)
    arrays = extract_files(
        loaded, files, dtype=dtype, batch_size=batch_size, resample=resample, progress=session.progress
    )
    temporary = out.with_name(f".{out.name}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        temporary.replace(out)
    except OSError as exc:
        raise ResourceError(f"{out} could not be written: {exc.strerror or exc}", "choose another --out") from exc
    finally:
        temporary.unlink(missing_ok=True)
    written = {name: list(array.shape) for name, array in arrays.items()}
    if as_json:
        dtypes = {name: str(array.dtype) for name, array in arrays.items()}
        echo_json(
            {
                "out": str(out),
                "upstream": loaded.name,
                "tap": loaded.tap,
                "dtype": dtype,
                "arrays": written,
                "dtypes": dtypes,
            }
        )
    else:
        for name, shape in written.items():
            click.echo(f"{name}: {shape}")
