"""Amounts of bytes as people write and read them."""

from __future__ import annotations

import re
from fractions import Fraction

from superbench.errors import UsageError

WRITTEN = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)(i?)b?", re.IGNORECASE)
POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def bytes_said(text: str, option: str) -> int:
    """Bytes of "10GB" (10 * 1000^3), "500MiB" (500 * 1024^2), "1.5g", "0". Raises `UsageError` naming the option."""
    found = WRITTEN.fullmatch(text.strip())
    if not found or (found[3] and not found[2]):
        raise UsageError(f"{option} {text}: no amount of bytes", "write 500MB, 10GiB, 1.5TB, or a number of bytes")
    return int(Fraction(found[1]) * (1024 if found[3] else 1000) ** POWERS[found[2].lower()])


def said_bytes(count: int) -> str:
    """Bytes as a person says them: 0 B, 812 B, 1.5 KiB, 3.2 GiB."""
    if count < 1024:
        return f"{count} B"
    power = min((count.bit_length() - 1) // 10, 5)
    if round(count / 1024**power, 1) >= 1024 and power < 5:
        power += 1
    return f"{count / 1024**power:.1f} {'KMGTP'[power - 1]}iB"
