"""CSV manifests in: one line per recording, read as text, checked for form before anything is opened."""

from __future__ import annotations

import codecs
import csv
import functools
import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from superbench.contracts import SPLITS, Problem, Row
from superbench.corpus import told
from superbench.errors import DataError, did_you_mean

DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}  # that other programs write in place of commas
SECONDS = re.compile(r"\d+(\.\d*)?|\.\d+")  # no sign, no exponent, no comma, no nan


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What one or several CSV files list."""

    rows: tuple[Row, ...]  # absolute paths
    roots: tuple[Path, ...]  # the folders no path leaves, one per CSV file, absolute
    left_out: int  # rows with an empty label column


@dataclass(frozen=True, kw_only=True)
class _Line:
    where: str  # file:line
    root: Path
    path: str  # as written: on disk a name in NFD is another name than the same in NFC
    cells: Mapping[str, str]  # in NFC

    @functools.cached_property
    def file(self) -> Path:
        return Path(os.path.normpath(self.root / self.path))


# Three lines of the format (the corpus's own columns follow and are kept):
#   path,split,text,phones,speaker,label,start,end,duration
#   recordings/0_george_0.wav,train,ZERO,,george,0,0.000,0.298,0.298
#   recordings/0_george_1.wav,train,ZERO,,george,0,0.000,0.591,0.591
def read_manifests(
    paths: Sequence[Path], *, column: str, label_column: str | None = None, root: Path | None = None
) -> Manifest:
    """Read CSV files into rows; together they are one corpus.

    Columns: `path` (relative to the CSV's folder, or to `root`) and `split` (or `fold`); optional `id`, `start` and
    `end` (seconds), `speaker`, `text`, `phones`, `label`. Every column is kept in `Row.labels`, as text, in NFC. The
    reference is in `label_column` where that is given, and rows without one are left out and counted; else it is in
    `column`, and rows without one are errors. Where every row has a `fold`, folds divide the corpus and `split` is not
    looked at; else every `split` is train, dev or test. An `id` that is missing is the path without its suffix, with
    `:start-end` where the path occurs more than once; without an id, a path with the same times occurs once. Raises
    `DataError` with everything that is wrong at once.
    """
    wanted = label_column or column
    lines: list[_Line] = []
    roots: list[Path] = []
    wrong: list[Problem] = []
    for path in paths:
        folder = (root or path.parent).resolve()
        roots.append(folder)
        header, records = _read_csv(path)
        _require_columns(header, wanted, path)
        for where, cells in records:
            if len(cells) != len(header):
                what = f"{len(cells)} cells under {len(header)} columns"
                wrong.append(Problem(kind="cells", where=where, what=what))
                continue
            normal = {name: unicodedata.normalize("NFC", cell) for name, cell in zip(header, cells, strict=True)}
            lines.append(_Line(where=where, root=folder, path=cells[header.index("path")], cells=normal))
    labelled = [line for line in lines if line.cells[wanted].strip()]
    left_out = len(lines) - len(labelled)
    if label_column is None:
        wrong += [
            Problem(kind="no-reference", where=line.where, what=f"column {wanted!r} is empty")
            for line in lines
            if not line.cells[wanted].strip()
        ]
        left_out = 0
    folded = bool(labelled) and all(line.cells.get("fold", "").strip() for line in labelled)
    if not folded:
        wrong += _split_problems(labelled)
    wrong += [problem for line in labelled for problem in _path_problems(line)]
    wrong += [problem for line in labelled for problem in _time_problems(line)]
    wrong += _repeated_paths(labelled)
    rows = [_row(line, folded=folded) for line in labelled]
    if wrong:
        listed = ", ".join(str(path) for path in paths)
        raise DataError(
            f"{len(wrong)} problems in {listed}:\n" + "\n".join(told(wrong)),
            "mend the lines, or name a column with empty cells by --label-column to leave those rows out",
        )
    return Manifest(rows=_with_unique_ids(rows), roots=tuple(dict.fromkeys(roots)), left_out=left_out)


def _read_csv(path: Path) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Header, and (file:line, cells) of every record; the text is UTF-8 with or without a mark."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", "check the path given to --data") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path}: it is UTF-16, not UTF-8", "save the file as UTF-8")
    if b"\0" in data:
        raise DataError(
            f"{path}:{_line_number(data, data.index(0))}: a NUL character: this is no plain text",
            "a manifest is CSV text in UTF-8: no sound file, no spreadsheet; save UTF-16 as UTF-8",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"not UTF-8: {error.reason} at byte {error.start}"
        raise DataError(f"{path}:{_line_number(data, error.start)}: {what}", "save the file as UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records = []
    try:
        for cells in reader:
            if cells:
                records.append((f"{path}:{reader.line_num}", cells))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}", "check the quotes of this line") from error
    if not records:
        raise DataError(f"{path}: there is no header line", "the first line names the columns: path,split,...")
    header = [unicodedata.normalize("NFC", name.strip()) for name in records[0][1]]
    return header, records[1:]


def _line_number(data: bytes, byte: int) -> int:
    return data[:byte].count(b"\n") + 1


def _require_columns(header: Sequence[str], wanted: str, path: Path) -> None:
    divided = [name for mark, name in DELIMITERS.items() if len(header) == 1 and mark in header[0]]
    if divided:
        raise DataError(
            f"{path}: the header is one column, {header[0]!r}",
            f"it is divided by {' and '.join(divided)}: save the file as CSV with commas",
        )
    twice = sorted(name for name, n in Counter(header).items() if n > 1)
    if twice:
        raise DataError(f"{path}: columns named twice: {', '.join(map(repr, twice))}", "give each column its own name")
    missing = [name for name in dict.fromkeys(("path", wanted)) if name not in header]
    if "split" not in header and "fold" not in header:
        missing.append("split")
    if missing:
        raise DataError(
            f"{path}: no column {' and no column '.join(map(repr, missing))}",
            "; ".join(f"for {name!r}: {did_you_mean(name, header)}" for name in missing),
        )


def _split_problems(lines: Sequence[_Line]) -> Iterator[Problem]:
    """Every split name that is none."""
    names = [line.cells.get("split", "") for line in lines]
    meant = {name: did_you_mean(name, SPLITS) for name in set(names) - set(SPLITS)}
    for line, name in zip(lines, names, strict=True):
        if name in meant:
            yield Problem(kind="split", where=line.where, what=f"there is no split {name!r}: {meant[name]}")


def _path_problems(line: _Line) -> Iterator[Problem]:
    """A path that is empty, absolute, a folder, or leaves its root by `..` or by a symbolic link."""
    text, what = line.path, ""
    if not text.strip():
        what = "the path is empty"
    elif text.startswith("/") or PureWindowsPath(text).is_absolute():
        what = f"the path is absolute; paths are relative to {line.root}"
    elif not line.file.is_relative_to(line.root):
        what = f"the path leaves {line.root}"
    else:
        try:
            if not line.file.resolve().is_relative_to(line.root):
                what = f"the path leaves {line.root} by a symbolic link"
            elif line.file.is_dir():
                what = "the path is that of a folder, not of a recording"
        except (OSError, RuntimeError) as error:  # RuntimeError: a ring of symbolic links
            what = f"the path leads nowhere: {error}"
    if what:
        yield Problem(kind="path", where=f"{line.where} ({text!r})", what=what)


def _time_problems(line: _Line) -> Iterator[Problem]:
    for name in ("start", "end"):
        text = line.cells.get(name, "").strip()
        if text and not SECONDS.fullmatch(text):
            yield Problem(kind="time", where=f"{line.where} ({text!r})", what=f"{name} is not a time in seconds")


def _repeated_paths(lines: Sequence[_Line]) -> Iterator[Problem]:
    """Paths that occur again with the same times: without an id there is nothing to tell the two rows apart."""
    first: dict[tuple[Path, Path, float, float | None], str] = {}
    for line in lines:
        if line.cells.get("id", "").strip() or not line.path.strip() or any(_time_problems(line)):
            continue
        key = (line.root, line.file, _seconds(line, "start") or 0.0, _seconds(line, "end"))
        if key in first:
            where = f"{line.where} ({line.path!r}, as in {first[key]})"
            what = "the path is listed before, with the same start and end: leave one out, or give an 'id' column"
            yield Problem(kind="duplicate-path", where=where, what=what)
        else:
            first[key] = line.where


def _row(line: _Line, *, folded: bool) -> Row:
    cells = line.cells
    return Row(
        id=cells.get("id", "").strip(),
        path=line.file,
        split="" if folded else cells.get("split", "").strip(),
        fold=cells["fold"].strip() if folded else "",
        speaker=cells.get("speaker", ""),
        labels=cells,
        start=_seconds(line, "start"),
        end=_seconds(line, "end"),
        where=line.where,
    )


def _seconds(line: _Line, name: str) -> float | None:
    """A time; None where there is none, or none that can be read."""
    text = line.cells.get(name, "").strip()
    return float(text) if SECONDS.fullmatch(text) else None


def _with_unique_ids(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Give the rows without an id one made of their path, and of their times where the path alone is not enough."""
    times = Counter(row.path for row in rows)
    named = []
    for row in rows:
        if row.id:
            named.append(row)
            continue
        stem = str(PurePosixPath(os.path.normpath(row.labels["path"])).with_suffix(""))
        if times[row.path] > 1 and not (row.start is None and row.end is None):
            stem += f":{row.labels.get('start', '').strip()}-{row.labels.get('end', '').strip()}"
        named.append(replace(row, id=stem))
    return tuple(named)
