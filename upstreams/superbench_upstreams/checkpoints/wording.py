"""How values of a stranger's file are named in an error: shortly, however large or deep they are."""

from __future__ import annotations

import reprlib
from collections.abc import Collection
from typing import Any

LONGEST = 120  # characters of one value
NAMES = 5  # that a list of names has


class _Short(reprlib.Repr):
    """Python's own abbreviation, of two levels."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 2, LONGEST, LONGEST

    def repr_instance(self, x: Any, level: int) -> str:
        """Whatever is no container, text or whole number; a tensor is not looked into."""
        plain = x is None or isinstance(x, (bool, float, bytes))
        return super().repr_instance(x, level) if plain else f"a {type(x).__name__}"


def shown(value: Any) -> str:
    """A value as Python writes it, cut short."""
    try:
        text = _Short().repr(value)
    except ValueError:  # Python does not print whole numbers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def listed(names: Collection[Any]) -> str:
    """The first few names in order, cut short, and whether there are more."""
    first = [name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..." for name in sorted(map(str, names))[:NAMES]]
    return ", ".join([*first, *(["..."] if len(names) > NAMES else [])])
