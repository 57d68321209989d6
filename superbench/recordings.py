"""What was found in recordings, remembered: a second command on a corpus reads none of its sound to check it.

One SQLite file, a row per recording as it was asked for. A row holds while the file's size, times and inode are those
of the inspection, and while the code and the libraries that read it are the same: `git` and `make` trust files so. What
is remembered is only ever a shorter way to what `superbench.audio.inspect` would say; errors are not remembered.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from superbench import audio
from superbench.contracts import Problem, Recording, Row, canonical_json, sha256_of

FRESH_NS = 2 * 10**9  # a file modified so shortly before it was read could change again within one tick of its clock
ROWS_AT_ONCE = 500  # written in one transaction; so many are read again after a kill
BUSY_SECONDS = 10.0  # how long one process waits for another one's transaction
TABLE = """
    CREATE TABLE IF NOT EXISTS recording
    (asked BLOB PRIMARY KEY, stamp BLOB NOT NULL, found BLOB NOT NULL, checksum BLOB NOT NULL) WITHOUT ROWID
"""
UNUSABLE = (  # codes of what is no damage: the disk, a permission, another process
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
)

Found = tuple[tuple[Recording, ...], tuple[Problem, ...]]
Answer = TypeVar("Answer")


class _DamagedError(Exception):
    """A row that is not as it was written."""


class KnownRecordings:
    """What earlier commands found in recordings, and what this one adds. Without a file it knows nothing.

    Nothing here stops a run: a damaged file is put aside and begun anew, one that cannot be used is left alone, and
    either is told by `tell`. With `reread` everything is read again, and remembered anew. Several processes may share a
    file. Use it as a context: what was found last is written at the end.
    """

    def __init__(
        self, file: Path | None, *, reread: bool = False, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self._file, self._reread, self._tell = file, reread, tell
        self._reader = _reader() if file is not None else ""
        self._connection: sqlite3.Connection | None = None
        self._pending: list[tuple[bytes, bytes, bytes, bytes]] = []
        self._put_aside = 0
        self._lock = threading.Lock()

    def __enter__(self) -> KnownRecordings:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._write()
            self._close()

    def recall(self, row: Row, *, rate: int, resample: bool, gain_db: float = 0.0) -> Found | None:
        """What `inspect` would find of a row, or None where that is not known."""
        if self._file is None or self._reread:
            return None
        facts = _stat(row.path)
        asked = _asked(row, rate, resample, gain_db)
        with self._lock:
            self._write()  # for the next task of this command
            found = self._try(lambda connection: _select(connection, asked))
        if facts is None or found is None or found[0] != self._stamp(facts):
            return None
        return _from_bytes(found[1], row, rate, gain_db)

    def inspect(self, row: Row, *, rate: int, resample: bool, gain_db: float = 0.0) -> Found:
        """Do as `superbench.audio.inspect` does, and remember what was found. Threads may share this."""
        before, begun = _stat(row.path) if self._file is not None else None, time.time_ns()
        found = audio.inspect(row, rate=rate, resample=resample, gain_db=gain_db)
        if before is None or not found[0] or begun - before.st_mtime_ns < FRESH_NS:
            return found
        asked, content = _asked(row, rate, resample, gain_db), _to_bytes(found)
        stamp = self._stamp(before)  # a file that changed meanwhile has another one by now
        with self._lock:
            self._pending.append((asked, stamp, content, _checksum(asked, stamp, content)))
            if len(self._pending) >= ROWS_AT_ONCE:
                self._write()
        return found

    def _stamp(self, facts: os.stat_result) -> bytes:
        """Hash of what must be as it was: the file's size, times and inode, and what reads it.

        The time of the last change of status (ctime) tells a file that was written over and given its old time again.
        """
        said = f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns} {facts.st_ino} {self._reader}"
        return hashlib.sha256(said.encode()).digest()

    def _write(self) -> None:
        """Write what waits; the lock is held."""
        rows, self._pending = self._pending, []
        if rows:
            self._try(lambda connection: _insert(connection, rows))

    def _try(self, action: Callable[[sqlite3.Connection], Answer]) -> Answer | None:
        """Do something with the file; None where that fails, which is told. The lock is held."""
        if self._file is None:
            return None
        try:
            if self._connection is None:
                self._connection = _opened(self._file)
            return action(self._connection)
        except _DamagedError as error:
            self._recover(self._file, str(error))
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code is None:  # not of the file, but our own fault
                raise
            if code & 0xFF in UNUSABLE:
                self._give_up(f"{self._file}: {error}")
            else:
                self._recover(self._file, str(error))
        except OSError as error:
            self._give_up(f"{error.filename or self._file}: {error.strerror or error}")
        return None

    def _recover(self, file: Path, why: str) -> None:
        """Put a damaged file aside, so that the next use begins another; once in a command, not twice."""
        self._close()
        target = file.with_suffix(f".corrupt-{secrets.token_hex(4)}")
        try:
            file.replace(target)
            # a journal that it leaves behind is of no harm: SQLite plays none back into an empty file
        except OSError as error:
            self._give_up(f"{file} is damaged ({why}) and cannot be moved: {error.strerror or error}")
            return
        self._tell(f"{file} was damaged ({why}) and is put aside as {target.name}: recordings are read again")
        self._put_aside += 1
        if self._put_aside > 1:
            self._give_up(f"{file} was damaged twice")

    def _give_up(self, why: str) -> None:
        self._close()
        self._file = None
        self._tell(f"what was found in recordings is not remembered, and the next command reads them again: {why}")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _reader() -> str:
    """What decides what is found in a file, beside the file: our source, and the libraries that decode and resample."""
    import soundfile
    import soxr

    return sha256_of(
        {
            "source": [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in (audio.__file__, __file__)],
            "fields": [f.name for kind in (Recording, Problem) for f in fields(kind)],
            "soundfile": [soundfile.__version__, soundfile.__libsndfile_version__],
            "soxr": [soxr.__version__, soxr.__libsoxr_version__],
        }
    )


def _asked(row: Row, rate: int, resample: bool, gain_db: float) -> bytes:
    """Hash of what `inspect` is asked: of a row's id, only where places of crops follow from it."""
    crop = (row.id, row.crop.seconds, row.crop.bank) if row.crop else None
    said = repr((str(row.path), row.start, row.end, crop, rate, resample, gain_db))
    return hashlib.sha256(said.encode()).digest()


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 - half the time of Path's, a hundred thousand times
    except (OSError, ValueError):
        return None


def _to_bytes(found: Found) -> bytes:
    """Recordings and problems as JSON, without what the row that asks for them says itself."""
    recordings, problems = ([asdict(one) for one in part] for part in found)
    for recording in recordings:
        del recording["path"], recording["rate"], recording["gain_db"]
    for problem in problems:
        del problem["where"]
    return canonical_json([recordings, problems]).encode()


def _from_bytes(content: bytes, row: Row, rate: int, gain_db: float) -> Found:
    recordings, problems = json.loads(content)
    return (
        tuple(Recording(path=row.path, rate=rate, gain_db=gain_db, **one) for one in recordings),
        tuple(Problem(where=audio.place(row), **one) for one in problems),
    )


def _checksum(asked: bytes, stamp: bytes, content: bytes) -> bytes:
    return hashlib.sha256(asked + stamp + content).digest()[:8]


def _opened(file: Path) -> sqlite3.Connection:
    file.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(TABLE)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _select(connection: sqlite3.Connection, asked: bytes) -> tuple[bytes, bytes] | None:
    """The stamp and the content of a row; None where there is none."""
    found = connection.execute("SELECT stamp, found, checksum FROM recording WHERE asked = ?", (asked,)).fetchone()
    if found is None:
        return None
    stamp, content, checksum = found
    whole = isinstance(stamp, bytes) and isinstance(content, bytes)  # SQLite holds no column to its type
    if not whole or checksum != _checksum(asked, stamp, content):
        raise _DamagedError("a checksum does not fit")
    return stamp, content


def _insert(connection: sqlite3.Connection, rows: list[tuple[bytes, bytes, bytes, bytes]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT OR REPLACE INTO recording VALUES (?, ?, ?, ?)", rows)
    connection.execute("COMMIT")
