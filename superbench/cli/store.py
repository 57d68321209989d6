"""`superbench store`: look at the stored features, check them, make room. Plugins may put further commands here."""

from __future__ import annotations

import datetime
from dataclasses import asdict

import click

from superbench.cli.output import echo_json, echo_table
from superbench.errors import DamagedError, IntegrityError, UsageError
from superbench.session import Session, pass_session
from superbench.sizes import bytes_said, said_bytes


@click.group()
def store() -> None:
    """Look at the stored features, check them, or make room."""


@store.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_session
def ls(session: Session, /, *, as_json: bool) -> None:
    """List what is stored: one line per upstream and form."""
    from superbench.features.store_catalog import stored_forms

    found = stored_forms(session.settings.store)
    if as_json:
        echo_json([{**asdict(f), "last_used": _time(f.last_used).isoformat(timespec="seconds")} for f in found])
        return
    rows = [
        (
            f.upstream or "(not said)",
            f.key[:12],
            f.form,
            str(f.entries),
            said_bytes(f.bytes) + (f", {f.damaged} damaged" if f.damaged else ""),
            f"{_time(f.last_used).astimezone():%Y-%m-%d %H:%M}",
        )
        for f in found
    ]
    if rows:
        echo_table("store", ("upstream", "key", "form", "entries", "bytes", "last used"), rows)
    click.echo(f"{said_bytes(sum(f.bytes for f in found))} in {session.settings.store}")


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


@store.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_session
def verify(session: Session, /, *, as_json: bool) -> None:
    """Read every stored feature. What is damaged is put aside, and computed again by the next run. Exit code 7 then."""
    from superbench.features.shards import SUFFIX, check_shard
    from superbench.features.store_catalog import file_sizes, form_folders, place_of
    from superbench.features.store_index import StoreIndex

    root = session.settings.store
    shards = [
        (folder, name, size)
        for folder in form_folders(root)
        for name, size in sorted(file_sizes(folder).items())
        if name.endswith(SUFFIX)
    ]
    indices = {folder: StoreIndex(folder, place_of(folder)) for folder, _, _ in shards}
    entries = 0
    damaged = []
    with session.progress.stage("shards checked", len(shards)) as bar:
        for folder, name, _ in shards:
            try:
                entries += check_shard(folder / name, place_of(folder))
            except DamagedError as exc:
                put_aside = indices[folder].put_aside(name, exc.message)
                if put_aside is not None:  # else it is gone: pruned, or put aside by another process
                    damaged.append({"file": str(folder / name), "put_aside": str(put_aside), "why": exc.message})
            bar.advance()
    for index in indices.values():
        index.save()
    read = sum(size for _, _, size in shards)
    if as_json:
        echo_json({"shards": len(shards), "entries": entries, "bytes": read, "damaged": damaged})
    else:
        for found in damaged:
            click.echo(f"damaged: {found['file']}: {found['why']}; put aside as {found['put_aside']}")
        click.echo(f"{entries} entries are whole; {len(shards)} shards, {said_bytes(read)}, were read in {root}")
    if damaged:
        raise IntegrityError(
            f"{len(damaged)} of {len(shards)} shards were damaged and are put aside",
            "run the same commands again: what was in them is computed again; `superbench store prune` deletes them",
        )


@store.command()
@click.option("--max-bytes", required=True, metavar="SIZE", help="What may stay: 10GB, 500MiB, 0.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and delete nothing.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_session
def prune(session: Session, /, *, max_bytes: str, dry_run: bool, as_json: bool) -> None:
    """Delete until the store takes SIZE at most: damaged and leftover files, then what was not used for longest."""
    from superbench.features.store_pruning import carry_out, plan_pruning

    root = session.settings.store
    pruning = plan_pruning(root, bytes_said(max_bytes, "--max-bytes"))
    if not dry_run:
        carry_out(root, pruning)
    if as_json:
        files = [{"file": str(f.path), "bytes": f.bytes, "why": f.why} for f in pruning.files]
        echo_json(
            {
                "dry_run": dry_run,
                "before": pruning.before,
                "after": pruning.after,
                "freed": pruning.freed,
                "files": files,
            }
        )
        return
    parts: dict[tuple[str, str], list[int]] = {}
    for file in pruning.files:
        where = str(file.path.parent.relative_to(root))
        parts.setdefault((where, file.why), []).append(file.bytes)
    if parts:
        rows = [(where, why, str(len(sizes)), said_bytes(sum(sizes))) for (where, why), sizes in parts.items()]
        echo_table("would go" if dry_run else "deleted", ("where", "why", "files", "bytes"), rows)
    verb = "would free" if dry_run else "freed"
    click.echo(f"{verb} {said_bytes(pruning.freed)}; {said_bytes(pruning.after)} stay in {root}")


@store.command()
@click.argument("key", default="")
@pass_session
def path(session: Session, /, *, key: str) -> None:
    """Print the store's folder, or that of one upstream: KEY is its key, or the beginning of it."""
    from superbench.features.store_catalog import form_folders

    root = session.settings.store
    if not key:
        click.echo(str(root))
        return
    folders = sorted({f.parent for f in form_folders(root) if f.parent.name.startswith(key)})
    if len(folders) != 1:
        several = ", ".join(f.name[:16] for f in folders)
        raise UsageError(
            f"the keys {several} begin with {key!r}" if folders else f"no stored upstream's key begins with {key!r}",
            "give more of it" if folders else "see `superbench store ls`",
        )
    click.echo(str(folders[0]))
