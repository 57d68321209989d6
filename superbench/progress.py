"""Progress with the time left, on stderr: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

EVERY = 10.0  # seconds between lines where stderr is not a terminal


class Bar:
    """One stage of the work: `advance` it as units are done. This one is silent."""

    def advance(self, units: int = 1, note: str = "") -> None:
        """Say that `units` more are done."""

    def warn(self, text: str) -> None:
        """Say what a person must know of the result."""


class Progress:
    """Where stages report to. This one is silent; the command line uses `StderrProgress`."""

    @contextlib.contextmanager
    def stage(self, name: str, total: int) -> Iterator[Bar]:
        yield Bar()

    def say(self, text: str) -> None:
        """Say how the work goes."""

    def warn(self, text: str) -> None:
        """Say what a person must know of the result."""


def duration(seconds: float) -> str:
    """Seconds as a person says them: 8 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


class _Warning:
    """What is told whether or not progress is."""

    def warn(self, text: str) -> None:
        _write(f"\r\033[Kwarning: {text}\n" if sys.stderr.isatty() else f"warning: {text}\n")


class _QuietBar(_Warning, Bar):
    pass


class QuietProgress(_Warning, Progress):
    """What `--quiet` shows: warnings only."""

    @contextlib.contextmanager
    def stage(self, name: str, total: int) -> Iterator[Bar]:
        yield _QuietBar()


class _StderrBar(_Warning, Bar):
    def __init__(self, name: str, total: int) -> None:
        self.name, self.total, self.done, self.note = name, total, 0, ""
        self.begun = self.shown = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def advance(self, units: int = 1, note: str = "") -> None:
        self.done += units
        self.note = note or self.note
        now = time.monotonic()
        if now - self.shown >= (0.2 if self.terminal else EVERY):
            self.shown = now
            self._show(now)

    def _show(self, now: float) -> None:
        left = (now - self.begun) / max(self.done, 1) * (self.total - self.done)
        text = f"{self.name}: {self.done}/{self.total}, {duration(left)} left  {self.note}".rstrip()
        _write(f"\r\033[K{text}" if self.terminal else f"{text}\n")

    def finish(self) -> None:
        taken = time.monotonic() - self.begun
        text = f"{self.name}: {self.done}/{self.total} in {duration(taken)}  {self.note}".rstrip()
        _write(f"\r\033[K{text}\n" if self.terminal else f"{text}\n")


class StderrProgress(_Warning, Progress):
    """What the command line shows."""

    @contextlib.contextmanager
    def stage(self, name: str, total: int) -> Iterator[Bar]:
        bar = _StderrBar(name, total)
        try:
            yield bar
        finally:
            bar.finish()

    def say(self, text: str) -> None:
        _write(f"{text}\n")
