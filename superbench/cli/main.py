"""`superbench`: take the plugins out of the command line, build the commands they bring, run one, give its code."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import datetime
import itertools
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import click

from superbench.cli import check, corpus, extract, listing, run, store
from superbench.errors import SuperbenchError, UsageError
from superbench.places import home_folder, places
from superbench.plugin import CommandSpec
from superbench.progress import QuietProgress, StderrProgress
from superbench.registry import Registered, Registry
from superbench.session import Session
from superbench.version import __version__

INTERRUPTED = 130
M_MMAP_THRESHOLD = -3  # glibc's malloc.h
LARGE_BLOCK = 4 * 2**20  # bytes


PLUGIN = ("-p", "--plugin")
WITH_VALUE = ("--home", "--store-dir", "--database")
STORE_MODES = ("auto", "frames", "pooled", "off")  # of run's and plan's --store
FLAGS = ("-q", "--quiet", "--debug")


def take_apart(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the plugins (`-p X`, `-pX`, `--plugin=X`) from the rest, and put the rest's general options in front.

    Both may stand before or after the subcommand; nothing after `--` is touched.
    """
    plugins: list[str] = []
    general: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        name, equals, value = argument.partition("=")
        if argument == "--":
            rest += [argument, *waiting]
        elif name in (*PLUGIN, *WITH_VALUE) and (name.startswith("--") or not equals):
            given = value if equals else next(waiting, None)
            if given is None:
                raise UsageError(f"{name} needs a value", "see `superbench --help`")
            if name in PLUGIN:
                plugins.append(given)
            else:
                general += [name, given]
        elif argument.startswith("-p") and not argument.startswith("--"):
            plugins.append(argument[2:])
        elif argument in FLAGS:
            general.append(argument)
        elif name == "--store":
            rest += [argument] if equals else [argument, *itertools.islice(waiting, 1)]
            _refuse_place(rest, value if equals else rest[-1])
        else:
            rest.append(argument)
    return plugins, general + rest


def _refuse_place(rest: Sequence[str], value: str) -> None:
    """`--store` was once the place of the store: say where that is given now."""
    looks_like_one = value not in STORE_MODES and (any(c in value for c in "/\\~.") or Path(value).is_dir())
    if rest[0].startswith("--store") or (rest[0] in ("run", "plan") and looks_like_one):
        raise UsageError(
            f"--store {value}: --store says what run and plan keep ({', '.join(STORE_MODES)}), and stands behind them",
            "the store's place is --store-dir DIR, anywhere in the command, or SUPERBENCH_STORE",
        )


def build_cli(registry: Registry) -> click.Group:
    """The click group: our commands, and those that plugins bring."""

    @click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
    @click.version_option(__version__, prog_name="superbench")
    @click.option(
        "-p", "--plugin", "plugin", multiple=True, metavar="FILE|MODULE|no:NAME", help="Load or block a plugin."
    )
    @click.option("--home", metavar="DIR", help="Where store, runs and database live.  [env: SUPERBENCH_HOME]")
    @click.option("--store-dir", metavar="DIR", help="Feature store.  [env: SUPERBENCH_STORE; HOME/store]")
    @click.option("--database", metavar="URL", help="Leaderboard.  [env: SUPERBENCH_DATABASE; HOME/leaderboard.sqlite]")
    @click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
    @click.option("--debug", is_flag=True, help="Show tracebacks.")
    @click.pass_context
    def superbench(
        context: click.Context,
        *,
        plugin: tuple[str, ...],
        home: str | None,
        store_dir: str | None,
        database: str | None,
        quiet: bool,
        debug: bool,
    ) -> None:
        """How good is my speech encoder? Score frozen upstreams on SUPERB's tasks, and compare them.

        \b
        superbench run --upstream fbank_no_cmvn --task ks --corpus ROOT
        superbench leaderboard show

        Exit codes: 0 ok, 1 our fault, 2 usage, 3 data, 4 plugin, 5 resources, 6 busy, 7 integrity, 8 NaN,
        9 not comparable, 130 interrupted.
        """
        context.obj = Session(
            registry=registry,
            settings=places(home, store=store_dir, database=database),
            progress=QuietProgress() if quiet else StderrProgress(),
            debug=debug,
        )

    for command in (run.run, run.plan, extract.extract, check.check, corpus.corpus, store.store, *listing.COMMANDS):
        superbench.add_command(_fresh(command))
    for brought in registry.commands:
        refused = _attach(superbench, brought)
        if refused:
            click.echo(f"warning: plugin {brought.provenance}: {refused}", err=True)
    return superbench


def _attach(group: click.Group, brought: Registered[CommandSpec]) -> str:
    """Put a plugin's command in its place, or say why not: the other commands must go on working."""
    spec = brought.spec
    parent: click.Command | None = group.commands.get(spec.under) if spec.under else group
    if not isinstance(parent, click.Group):
        groups = ", ".join(n for n, c in group.commands.items() if isinstance(c, click.Group))
        return f"command {spec.command.name!r} cannot stand under {spec.under!r}, which is no group (groups: {groups})"
    if spec.command.name in parent.commands:
        return f"command {spec.command.name!r} exists already and is left out"
    parent.add_command(_fresh(spec.command))
    return ""


def _fresh(command: click.Command) -> click.Command:
    """A copy of a group, which takes further commands and leaves the module's own as it is; else the command itself."""
    if not isinstance(command, click.Group):
        return command
    group = copy.copy(command)
    group.commands = dict(command.commands)
    return group


def _log(home: str | None) -> Path | None:
    """Write the traceback of our own fault where it can be found again."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    path = home_folder(home) / "logs" / f"{stamp}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"superbench {__version__} {sys.argv[1:]}\n{traceback.format_exc()}", encoding="utf-8")
    except OSError:
        return None
    return path


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def invoke(arguments: Sequence[str]) -> int:  # noqa: PLR0911 - one return per way to end
    """Run one command line and return its exit code."""
    debug, home = "--debug" in arguments, None
    try:
        plugins, rest = take_apart(arguments)
        home = rest[rest.index("--home") + 1] if "--home" in rest else None
        registry = Registry.load(plugins)
        for record in registry.records:
            if record.error and record.argument:
                click.echo(f"warning: plugin {record.provenance} is broken: {record.error}", err=True)
        cli = build_cli(registry)
        code = cli.main(args=rest, prog_name="superbench", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except SuperbenchError as exc:
        if debug:
            traceback.print_exc()
        click.echo(f"error: {exc}", err=True)
        return exc.exit_code
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("\ninterrupted: what is finished is kept; run the same command again to go on", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        return 0
    except Exception as exc:  # noqa: BLE001 - the last door: our own fault, told as such
        if debug:
            traceback.print_exc()
        log = _log(home)
        where = f"; the traceback is in {log}" if log else ""
        click.echo(f"superbench failed, and it is its own fault: {type(exc).__name__}: {exc}{where}", err=True)
        return 1


def _return_large_blocks() -> None:
    """Have glibc give every large block back when it is freed: batches of varying size leave holes in its heap.

    A run on frames kept up to 0.5 GiB in them. Other C libraries have no such setting.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


def main() -> None:
    """The console script."""
    # idle OpenMP threads sleep: spinning ones make small steps ten times slower wherever the machine has other work
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # large tensors in large pages: a copy of 256 MB took 37 ms in place of 147
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    _return_large_blocks()
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(invoke(sys.argv[1:]))


if __name__ == "__main__":
    main()
