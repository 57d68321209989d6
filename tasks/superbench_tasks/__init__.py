"""The tasks wing: five SUPERB tasks, and the synthetic corpus that needs no download."""

from __future__ import annotations

from collections.abc import Iterable

from superbench.plugin import CommandSpec, TaskSpec, hookimpl
from superbench_tasks.asr import TASK as ASR
from superbench_tasks.er import TASK as ER
from superbench_tasks.ks import TASK as KS
from superbench_tasks.pr import TASK as PR
from superbench_tasks.sid import TASK as SID


@hookimpl
def superbench_tasks() -> Iterable[TaskSpec]:
    """Yield the five tasks."""
    yield from (ASR, PR, SID, ER, KS)


@hookimpl
def superbench_commands() -> Iterable[CommandSpec]:
    """Yield `superbench corpus synthesize`."""
    from superbench_tasks.synthesis.command import synthesize

    yield CommandSpec(command=synthesize, under="corpus")
