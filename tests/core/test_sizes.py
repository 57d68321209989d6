"""Amounts of bytes: read as they are written, told as they are read."""

from __future__ import annotations

import pytest

from superbench.errors import UsageError
from superbench.sizes import bytes_said, said_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("123", 123),
        ("10GB", 10**10),
        ("500MiB", 500 * 2**20),
        ("4GiB", 2**32),
        ("1.5TB", 1_500_000_000_000),
        ("0.1GB", 100_000_000),
        ("2k", 2000),
        ("2Ki", 2048),
        (" 7 gb ", 7 * 10**9),
        ("12B", 12),
    ],
)
def test_sizes_are_read(text, expected):
    assert bytes_said(text, "--max-bytes") == expected


@pytest.mark.parametrize("text", ["", "GB", "-1", "ten", "1e9", "1,5GB", "1.GB", "10 XB", "1iB", "1GBs", "nan", "١GB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError, match=f"--max-bytes {text}: no amount of bytes"):
        bytes_said(text, "--max-bytes")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (3 * 2**30 + 2**28, "3.2 GiB"),
        (2**63, "8192.0 PiB"),
    ],
)
def test_sizes_as_people_say_them(count, text):
    assert said_bytes(count) == text
