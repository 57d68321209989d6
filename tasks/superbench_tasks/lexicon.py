"""Pronunciation lexicons: words to phones, the first pronunciation of each."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from superbench.errors import DataError

VARIANT = re.compile(r"\(\d+\)$")  # the second pronunciation of `a` is headed `a(2)`
COMMENT = re.compile(r"\s#.*")  # cmudict.dict: `aalborg AO1 L B AO0 R G # place, danish`


def read_lexicons(paths: Sequence[Path]) -> dict[str, str]:
    """Read lexicons into upper-case word -> phones with single spaces; the first pronunciation met stays.

    Plain or gzip-compressed text, in UTF-8 or, as CMUdict 0.7 is, in Latin-1. Raises `DataError` for a file that
    cannot be read and for a line without phones.
    """
    lexicon: dict[str, str] = {}
    for path in paths:
        for where, line in lexicon_lines(path, latin=True):
            for word, phones in _entries(line, where):
                lexicon.setdefault(word, phones)
    return lexicon


def lexicon_lines(path: Path, *, latin: bool = False) -> Iterator[tuple[str, str]]:
    """(file:line, text) of every line of a lexicon, plain or .gz, that is not empty.

    The text is UTF-8, or else, where `latin`, Latin-1. Raises `DataError` for a file that cannot be read as that.
    """
    for number, line in enumerate(_text(path, latin).split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", line


# Lines of CMUdict (two spaces after the word in 0.7, one in cmudict.dict, comments behind `;;;` or ` #`):
#   ;;; # CMUdict  --  Major Version: 0.07
#   aalborg AO1 L B AO0 R G # place, danish
#   a(2) EY1
# and of LibriSpeech's lexicons:
#   ABBEY<tab>AE1 B IY0
def _entries(line: str, where: str) -> Iterator[tuple[str, str]]:
    """One (word, phones) or, for a comment, an empty line or a further variant, none."""
    if line.startswith(";;;"):
        return
    word, *phones = COMMENT.sub("", line).split()
    if not phones:
        raise DataError(f"{where}: no phones after {word!r}", "a line is a word and its phones: HELLO HH AH0 L OW1")
    if not VARIANT.search(word):
        yield word.upper(), " ".join(phones)


def _text(path: Path, latin: bool) -> str:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            if latin:
                return content.decode("latin-1")
            raise
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        mend = "check the path given to --lexicon: it is text in UTF-8, plain or .gz"
        raise DataError(f"the lexicon {path} cannot be read: {error}", mend) from error


def pronounce(transcripts: Sequence[tuple[str, str]], lexicon: Mapping[str, str]) -> list[str]:
    """Turn transcripts, given as (where, text), into phones; words that have none are all listed in one `DataError`."""
    missing: dict[str, str] = {}
    pronounced = []
    for where, text in transcripts:
        words = text.upper().split()
        for word in words:
            if word not in lexicon:
                missing.setdefault(word, where)
        pronounced.append(" ".join(lexicon.get(word, "") for word in words))
    if missing:
        listed = ", ".join(f"{word} (in {where})" for word, where in sorted(missing.items()))
        raise DataError(
            f"{len(missing)} words have no pronunciation: {listed}",
            "give a further lexicon that has them: --lexicon PATH may be repeated",
        )
    return pronounced
