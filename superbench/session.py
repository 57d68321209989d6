"""What every command of the command line shares, ours and plugins': `context.obj` is a `Session`."""

from __future__ import annotations

from dataclasses import dataclass

import click

from superbench.contracts import Settings
from superbench.progress import Progress
from superbench.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Session:
    """The context object of every click command, ours and plugins'."""

    registry: Registry
    settings: Settings
    progress: Progress
    debug: bool = False


pass_session = click.make_pass_decorator(Session)
