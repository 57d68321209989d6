"""How long a command that computes nothing takes, against an interpreter that imports torch and one that does nothing.

The ratio is wall time of whole processes, whose files are in the page cache; the first start after an installation or a
boot is slower for all of them. Against torch it says what a command line that imports it at the top would cost at
least; against `pass` it says what ours costs above Python itself.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from .comparison import Comparison, alternate, seconds

SUPERBENCH = "from superbench.cli.main import main; main()"  # what the console script does


@dataclass(frozen=True, kw_only=True)
class Size:
    rounds: int


SMALL = Size(rounds=5)
FULL = replace(SMALL, rounds=15)

COMMANDS = {
    "python -c 'import torch'": ("import torch",),
    "python -c pass": ("pass",),
    "superbench --help": (SUPERBENCH, "--help"),
    "superbench list": (SUPERBENCH, "list"),
}


def compare(size: Size) -> tuple[Comparison, ...]:
    """Both commands against both interpreters."""
    measures = {name: partial(_seconds_of, arguments) for name, arguments in COMMANDS.items()}
    alternate(measures, 1)  # warm up: byte code and page cache
    taken = alternate(measures, size.rounds)
    torch, nothing, *ours = COMMANDS
    return tuple(
        Comparison(benchmark="imports", a=other, b=command, unit="s", a_values=taken[other], b_values=taken[command])
        for other in (torch, nothing)
        for command in ours
    )


def _seconds_of(arguments: Sequence[str]) -> float:
    command = [sys.executable, "-c", *arguments]
    return seconds(lambda: subprocess.run(command, check=True, capture_output=True))
