"""Official trees: folders as their publishers unpack them, looked at once and completely."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from superbench.errors import DataError


def official_folder(root: Path, name: str) -> Path:
    """Return the absolute path of an official folder under the corpus root; raises `DataError` where it is missing."""
    folder = root.absolute() / name
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", f"--corpus is the folder that holds {name!r}, not {name!r}")
    return folder


def subfolder(folder: Path, name: str) -> Path:
    """Return a folder an official tree cannot be without; raises `DataError` where it is missing."""
    inner = folder / name
    if not inner.is_dir():
        raise DataError(f"{folder} has no folder {name!r}", "unpack the whole corpus, or give a manifest by --data")
    return inner


def visible(folder: Path, pattern: str) -> list[Path]:
    """Files and folders in `folder` that match, in sorted order, without hidden ones.

    A tree that was on a Mac carries `._NAME` beside every NAME; those are no recordings.
    """
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def lines(file: Path) -> Iterator[tuple[str, str]]:
    """(file:line, text) of every line that is not empty; raises `DataError` where the file is not UTF-8 text."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 at byte {error.start}", "unpack the corpus again") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{file}:{number}", line


def refuse(wrong: Sequence[str], folder: Path) -> None:
    """Raise one `DataError` with everything that is wrong, if anything is."""
    if wrong:
        raise DataError(
            f"{len(wrong)} problems in {folder}:\n" + "\n".join(wrong),
            "unpack the corpus again, whole and unchanged, or list what you have in a manifest for --data",
        )
