"""What can go wrong, and the exit code each kind ends the command with.

Every error a user can cause is a `SuperbenchError`: a message that says what was asked and what was found, and a hint
that says how to mend it. Anything else that escapes is our own fault, exit code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SuperbenchError(Exception):
    """A mistake a user can mend. `message` says what and where; `hint` says how to mend it."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class UsageError(SuperbenchError):
    """The command, an option or a configuration file is wrong."""

    exit_code = 2


class DataError(SuperbenchError):
    """A corpus, a manifest, a lexicon or a recording is wrong."""

    exit_code = 3


class PluginError(SuperbenchError):
    """A plugin could not be loaded or failed while it ran."""

    exit_code = 4


class ContractError(PluginError):
    """A plugin ran but broke a promise of its contract: says expected against got."""


class MissingExtraError(PluginError):
    """An optional dependency is not installed: names the extra that brings it."""


class ResourceError(SuperbenchError):
    """Disk, memory, device or permission is missing."""

    exit_code = 5


class BusyError(SuperbenchError):
    """Somebody else holds what we need, and still did after the wait."""

    exit_code = 6


class IntegrityError(SuperbenchError):
    """Stored bytes are not the bytes that were written."""

    exit_code = 7


class DamagedError(IntegrityError):
    """Stored features are damaged or gone: nothing is lost but time, for they can be computed again."""


class NumericalError(SuperbenchError):
    """A NaN or an infinity where a number must be."""

    exit_code = 8


class NotComparableError(SuperbenchError):
    """Two results do not answer the same question."""

    exit_code = 9


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence that names the nearest of `known`, or lists them all where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(repr(n) for n in near)}?"
    return f"there is: {', '.join(names)}" if names else "there is none"
