"""Many short lives of `superbench`: forked from a process that has all it needs loaded, and struck where a test says.

A fault is `MOMENT:NAME:K` in the environment variable FAULT: it strikes the K-th renaming onto a file of that name.
`struck_plugins` has the plugin that does it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ALARM = 120  # seconds after which a process that hangs is ended by SIGALRM
AT_ONCE = 2  # processes

# Reads orders, one JSON object per line: start a command, or wait for the end of one. Answers with a number each.
DRIVER = f"""
import functools, gc, json, os, signal, sys
from superbench.cli.main import invoke, main
from superbench.features import identity

identity._meaning = functools.cache(identity._meaning)  # of source files, which all children share: a third of a life

answers = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_RDWR), 1)
assert invoke(json.loads(sys.argv[1])) == 0  # one whole run: everything is loaded now, and a child is quick
gc.collect()
gc.freeze()

def child(order):
    signal.alarm({ALARM})
    os.environ.update(order["environment"])
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["superbench", *order["start"]]
    try:
        main()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        answer = os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])
    else:
        answer = os.fork()
        if answer == 0:
            child(order)
    print(answer, file=answers, flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Started:
    """One process: what it is to do, and where what it says goes."""

    number: int  # of the process
    out: Path
    err: Path


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How it ended: its exit code, or minus the signal that killed it; and what it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, kw_only=True)
class Order:
    """A command line and the fault that strikes it."""

    arguments: Sequence[object]
    fault: str = "never:*:0"  # MOMENT:NAME:K, see struck_plugins
    log: Path | None = None  # where every renaming is noted
    gate: Gate | None = None  # where a process waits whose fault is a pause


class Driver:
    """A driver that forks `superbench` processes."""

    def __init__(self, folder: Path, first: Sequence[object]) -> None:
        """`first` is a command line that the driver itself runs, so that every child has its modules loaded."""
        self.folder = folder
        self.count = 0
        self.driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, json.dumps([str(a) for a in first])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # a process with threads must not fork
        )

    def start(self, order: Order) -> Started:
        """Fork one process."""
        self.count += 1
        out, err = (self.folder / f"{self.count}.{name}" for name in ("out", "err"))
        environment = {"FAULT": order.fault}
        if order.log is not None:
            environment["FAULT_LOG"] = str(order.log)
        if order.gate is not None:
            environment["FAULT_GATE"] = str(order.gate.path)
        asked = {"start": [str(a) for a in order.arguments], "environment": environment}
        return Started(number=self._ask({**asked, "out": str(out), "err": str(err)}), out=out, err=err)

    def wait(self, started: Started) -> Ended:
        """Wait for the end of one process."""
        code = self._ask({"wait": started.number})
        return Ended(code=code, out=started.out.read_text(), err=started.err.read_text())

    def run(self, *orders: Order) -> list[Ended]:
        """Run some to their ends, two at a time."""
        ended: list[Ended] = []
        for first in range(0, len(orders), AT_ONCE):
            ended += [self.wait(started) for started in [self.start(o) for o in orders[first : first + AT_ONCE]]]
        return ended

    def end(self) -> None:
        self.driver.communicate()

    def _ask(self, order: dict[str, object]) -> int:
        assert self.driver.stdin is not None
        assert self.driver.stdout is not None
        self.driver.stdin.write(json.dumps(order) + "\n")
        self.driver.stdin.flush()
        answer = self.driver.stdout.readline()
        assert answer, "the driver has ended: what it said is on stderr"
        return int(answer)


class Gate:
    """Where a process waits at its fault until the test lets it go."""

    def __init__(self, path: Path, here: IO[bytes], go: IO[bytes]) -> None:
        self.path, self._here, self._go = path, here, go

    def wait(self) -> None:
        """Until the process stands at the gate."""
        ready, _, _ = select.select([self._here], [], [], ALARM / 2)
        assert ready, "the process never came to its fault"

    def open(self) -> None:
        self._go.write(b".")


@contextlib.contextmanager
def gate(path: Path) -> Iterator[Gate]:
    """Two pipes with names: both ends of each are held here, so that nobody waits for another to open them."""
    names = [path.with_name(f"{path.name}.{end}") for end in ("here", "go")]
    for name in names:
        os.mkfifo(name)
    with contextlib.ExitStack() as held:
        here, go = (held.enter_context(os.fdopen(os.open(n, os.O_RDWR), "r+b", buffering=0)) for n in names)
        yield Gate(path, here, go)
