"""Who writes here: a tag for this process that its files carry, and whether the process behind a tag is gone."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
from pathlib import Path

TAG = re.compile(r"([0-9a-f]{8})-([0-9]+)")


@functools.cache
def _place() -> str:
    """Where process ids mean what they mean here: this machine since it was started, and this container on it."""
    facts = [platform.node()]
    try:  # of Linux; elsewhere the machine's name must do
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        facts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    except OSError:
        pass
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]


def process_tag() -> str:
    """The tag of this process, `PLACE-PID`: other processes and other machines have other tags."""
    return f"{_place()}-{os.getpid()}"


def state_of(tag: str) -> str:
    """ "alive" or "dead" of the process with this tag; "unknown" where it is another machine's, or no tag at all."""
    found = TAG.fullmatch(tag)
    if not found or found[1] != _place() or os.name != "posix":
        return "unknown"
    try:
        os.kill(int(found[2]), 0)  # signal 0 is not sent: it asks whether it could be
    except PermissionError:
        return "alive"
    except (ProcessLookupError, OverflowError):
        return "dead"
    return "alive"
