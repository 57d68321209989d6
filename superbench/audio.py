"""Stage 0: read one recording, vet it, and say what was found.

Reading is by soundfile (libsndfile) as float32, resampling by soxr at quality HQ, and only when asked for. Nothing is
mended: stereo is not averaged, a short file is not padded, a file cut off in the middle is not used. A path is looked
at before it is opened, so that a fifo, a device or a folder is refused and never read.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from superbench.contracts import Problem, Recording, Row, Utterance
from superbench.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]

FRAME_SECONDS = 0.025  # receptive field of the wav2vec 2.0 front end (400 samples at 16 kHz): less gives no frame
LONGEST_SECONDS = 3600.0  # of one cut; more is a recording still to be cut, and would not fit in memory
END_TOLERANCE_SECONDS = 0.001  # manifests write times with three decimals
CUT_TOLERANCE_SECONDS = 0.002  # two such times, each rounded
FULL_SCALE = 32767 / 32768  # the largest 16-bit sample as float32
CLIPPED_RUN = 3  # so many samples in a row at full scale are a flat top, fewer a mere peak
READABLE = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3")  # a cut-off file is told in all but MP3 without Xing


class _RefusedError(Exception):
    """Why one recording cannot be used: a `Problem` that has not got its place yet.

    `what` does not name the file, so that the same is said of all files with the same fault.
    """

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(kind, what)
        self.kind = kind
        self.what = what


class _Sound(NamedTuple):
    samples_n: Samples  # as fed
    recording: Recording


class _Window(NamedTuple):
    start: int  # first sample, at the file's rate
    stop: int  # one past the last
    already_cut: bool  # the times are those of a longer recording this file was cut from


def inspect(
    row: Row, *, rate: int, resample: bool, gain_db: float = 0.0
) -> tuple[tuple[Recording, ...], tuple[Problem, ...]]:
    """Read the cut of a row and say what is there and what is wrong with it.

    `row.path` is absolute; `row.start` and `row.end` are seconds into the file. `rate` is what the upstream is fed, in
    Hz; a file of another rate is an error unless `resample`. Samples are turned up by `gain_db` (down where negative).
    There is one recording, or one per crop where `row.crop` asks for crops of what is longer than they are; there is
    none if and only if there is an error. Where the times do not fit the file but the file is exactly as long as they
    are apart (within 2 ms), the file is the cut already and is used whole, with a warning: IEMOCAP's lists give times
    in the dialog beside sentence files.
    """
    sounds, problems = _vet(row, rate=rate, resample=resample, gain_db=gain_db)
    return tuple(sound.recording for sound in sounds), problems


def read(utterance: Utterance) -> Samples:
    """Read the samples of a checked utterance again, float32 [samples].

    Raises `DataError` where they are not the samples that were checked.
    """
    changed = DataError(
        f"{utterance.id}: the sound changed since it was checked: {utterance.path}",
        "run again with --reread, and leave the corpus alone while it runs",
    )
    try:
        with _opened(utterance.path) as file:
            if file.samplerate != utterance.native_rate or file.channels != 1 or file.frames < utterance.stop:
                raise changed
            native_n = _samples(file, utterance.start, utterance.stop)
    except _RefusedError as refused:
        raise changed from refused
    samples_n = _as_fed(native_n, utterance.native_rate, utterance.rate, utterance.gain_db)
    if _content(samples_n) != utterance.content:
        raise changed
    return samples_n


def read_file(path: Path, *, rate: int, resample: bool) -> Samples:
    """Read a whole file, float32 [samples] at `rate` Hz, with the vetting of `inspect`; errors are `DataError`s."""
    sounds, problems = _vet(Row(id=path.name, path=path.absolute()), rate=rate, resample=resample, gain_db=0.0)
    if not sounds:
        errors = [p for p in problems if p.severity == "error"]
        raise DataError(
            "\n".join(f"{p.where}: {p.kind}: {p.what}" for p in errors),
            "pass --resample to convert the rate" if any(p.kind == "rate" for p in errors) else "",
        )
    return sounds[0].samples_n


def crop_starts(row_id: str, samples: int, size: int, bank: int) -> list[int]:
    """First samples of a bank of crops: each a hash of the recording's id and the crop's number, over all places.

    `samples` and `size` are those of the recording and of a crop, at one rate; a recording that is not longer than a
    crop has one, which is the whole.
    """
    if samples <= size:
        return [0]
    places = samples - size + 1
    hashes = (hashlib.sha256(f"{row_id}#{number}".encode()).digest() for number in range(bank))
    return [int.from_bytes(digest[:8], "big") % places for digest in hashes]


def place(row: Row) -> str:
    """Where a row and its file are, for people: what a `Problem` of it calls its `where`."""
    listed = f"{row.where}: " if row.where not in ("", str(row.path)) else ""
    return f"{row.id} ({listed}{row.path})"


def _vet(row: Row, *, rate: int, resample: bool, gain_db: float) -> tuple[tuple[_Sound, ...], tuple[Problem, ...]]:
    where = place(row)
    try:
        with _opened(row.path) as file:
            problems = _format_problems(file, where, rate=rate, resample=resample)
            window = _window(row, file.frames, file.samplerate)
            if problems:
                return (), problems
            native_n, native_rate = _samples(file, window.start, window.stop), file.samplerate
        _refuse_not_finite(native_n)
        size = round(row.crop.seconds * native_rate) if row.crop else len(native_n)
        starts = crop_starts(row.id, len(native_n), size, row.crop.bank if row.crop else 1)
        sounds = tuple(
            _Sound(
                samples_n := _vetted(native_n[first : first + size], native_rate, rate, gain_db),
                Recording(
                    path=row.path,
                    start=window.start + first,
                    stop=window.start + min(first + size, len(native_n)),
                    native_rate=native_rate,
                    samples=len(samples_n),
                    rate=rate,
                    content=_content(samples_n),
                    resampler=_resampler(native_rate, rate) if native_rate != rate else "",
                    gain_db=gain_db,
                ),
            )
            for first in starts
        )
    except _RefusedError as refused:
        return (), (Problem(kind=refused.kind, where=where, what=refused.what),)
    return sounds, tuple(_warnings(native_n, row, window, where))


def _format_problems(file: Any, where: str, *, rate: int, resample: bool) -> tuple[Problem, ...]:
    found = []
    if file.format not in READABLE:
        found.append(("format", f"it is {file.format}: convert it to one of {', '.join(READABLE)}"))
    if file.channels != 1:
        found.append(("stereo", f"it has {file.channels} channels: write one of them into a file of its own"))
    if file.samplerate != rate and not resample:
        found.append(("rate", f"{file.samplerate} Hz in place of {rate} Hz: pass --resample to convert it"))
    return tuple(Problem(kind=kind, where=where, what=what) for kind, what in found)


def _window(row: Row, frames: int, rate: int) -> _Window:
    """Turn the seconds of a row into samples of its file, or say that they do not fit."""
    if frames == 0:
        raise _RefusedError("empty", "the file holds no sample")
    seconds = frames / rate
    start = 0.0 if row.start is None else row.start
    end = seconds if row.end is None else row.end
    asked = f"start {row.start} and end {row.end} (seconds)"
    if not (math.isfinite(start) and math.isfinite(end)) or start < 0 or end <= start:
        raise _RefusedError("window", f"{asked} are no stretch of the file, which is {seconds:.4f} s long")
    outside = end > seconds + END_TOLERANCE_SECONDS or start >= seconds
    already_cut = outside and row.end is not None and abs((end - start) - seconds) <= CUT_TOLERANCE_SECONDS
    if outside and not already_cut:
        raise _RefusedError("window", f"{asked} lie outside the file, which is {seconds:.4f} s long")
    first = 0 if already_cut else round(start * rate)
    stop = frames if already_cut or end >= seconds - END_TOLERANCE_SECONDS else round(end * rate)
    if stop <= first:
        raise _RefusedError("empty", f"{asked} hold no sample")
    if (stop - first) / rate > LONGEST_SECONDS:
        raise _RefusedError("too-long", f"{asked} are more than {LONGEST_SECONDS:g} s: cut the file by rows")
    return _Window(first, stop, already_cut)


def _refuse_not_finite(native_n: Samples) -> None:
    import numpy as np

    if not np.isfinite(native_n).all():
        raise _RefusedError("not-finite", "it holds NaN or infinite samples")


def _vetted(native_n: Samples, native_rate: int, rate: int, gain_db: float) -> Samples:
    """Return the samples as fed, or say why nothing can be made of them."""
    samples_n = _as_fed(native_n, native_rate, rate, gain_db)
    if len(samples_n) < FRAME_SECONDS * rate:
        raise _RefusedError("too-short", f"{len(samples_n)} samples at {rate} Hz are less than 25 ms")
    return samples_n


def _warnings(native_n: Samples, row: Row, window: _Window, where: str) -> Iterator[Problem]:
    if window.already_cut:
        times = f"start {row.start} and end {row.end}"
        what = f"{times} are times in a longer recording; the file is that cut and is used whole"
        yield Problem(kind="already-cut", where=where, what=what, severity="warning")
    if native_n.min() == native_n.max():
        what = f"every sample is {native_n[0]:g}"
        yield Problem(kind="constant", where=where, what=what, severity="warning")
    elif _clipped(native_n):
        what = f"{CLIPPED_RUN} samples in a row or more stand at full scale"
        yield Problem(kind="clipped", where=where, what=what, severity="warning")


def _clipped(native_n: Samples) -> bool:
    import numpy as np

    full_n = np.abs(native_n) >= FULL_SCALE
    first, last = CLIPPED_RUN - 1, len(full_n)
    return bool(np.logical_and.reduce([full_n[first - k : last - k] for k in range(CLIPPED_RUN)]).any())


def _samples(file: Any, start: int, stop: int) -> Samples:
    """Decode samples `start` to `stop`, float32 [stop - start], at the file's rate.

    Lossy formats are decoded from their beginning: a seek in them may land elsewhere or start with other state.
    """
    first = 0 if file.format in ("OGG", "MP3") else start
    file.seek(first)
    samples_nc = file.read(stop - first, dtype="float32", always_2d=True)
    if len(samples_nc) != stop - first:
        raise _RefusedError("truncated", f"{file.frames} samples are promised, {first + len(samples_nc)} are there")
    samples_n: Samples = samples_nc[start - first :, 0].copy()
    return samples_n


def _resampler(native_rate: int, rate: int) -> str:
    import soxr

    return f"soxr {soxr.__version__} HQ {native_rate}->{rate}"


def _as_fed(native_n: Samples, native_rate: int, rate: int, gain_db: float) -> Samples:
    """Resample where rates differ, and turn up by `gain_db` in double precision; what is loud enough is not clipped."""
    samples_n = native_n
    if native_rate != rate:
        import soxr

        samples_n = soxr.resample(native_n, native_rate, rate, quality="HQ")
    if gain_db:
        import numpy as np

        samples_n = (samples_n.astype(np.float64) * 10 ** (gain_db / 20)).astype(np.float32)
    return samples_n


def _content(samples_n: Samples) -> str:
    return hashlib.sha256(samples_n.astype("<f4", copy=False).tobytes()).hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a regular file as a `soundfile.SoundFile`; every way in which that fails is a `_RefusedError`."""
    import soundfile

    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _RefusedError("missing", "there is no file of this name") from error
    except OSError as error:
        raise _RefusedError("unreadable", error.strerror or str(error)) from error
    except ValueError as error:  # a NUL in the name
        raise _RefusedError("unreadable", str(error)) from error
    if not stat.S_ISREG(mode):
        raise _RefusedError("not-a-file", "it is a folder, a device or a pipe")
    try:
        with path.open("rb", buffering=0) as file:
            _refuse_cut_off(file, os.fstat(file.fileno()).st_size)
            file.seek(0)
            # By descriptor: what the file is named plays no part in what it is taken for.
            with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
                yield sound
    except OSError as error:
        raise _RefusedError("unreadable", error.strerror or str(error)) from error
    except soundfile.SoundFileError as error:
        raise _RefusedError("unreadable", str(getattr(error, "error_string", error))) from error


def _refuse_cut_off(file: FileIO, size: int) -> None:
    """Refuse WAV and Ogg files that end before their sound does: libsndfile reads those without a word.

    FLAC and MP3 need nothing here: the one's decoder raises, the other's returns less than it promised.
    """
    if size == 0:
        raise _RefusedError("empty", "the file has no bytes")
    kind = file.read(4)
    if kind in (b"RIFF", b"RIFX", b"RF64"):
        promised = _riff_data_end(file, ">" if kind == b"RIFX" else "<")
        if promised > size:
            raise _RefusedError("truncated", f"the header promises {promised} bytes, the file has {size}")
    if kind == b"OggS":
        file.seek(max(0, size - 65536 - 512))  # a page is at most 65307 bytes long
        tail = file.read()
        last = tail[tail.rfind(b"OggS") :]
        header = 27 + last[26] if len(last) > 26 else len(last) + 1  # capture pattern to segment table
        if len(last) < header + sum(last[27:header]) or not last[5] & 0x04:  # 0x04: last page of the stream
            raise _RefusedError("truncated", "the Ogg stream has no whole last page")


def _riff_data_end(file: FileIO, order: str) -> int:
    """Where the sound of a RIFF file ends by its header, in bytes from the beginning of the file."""
    file.seek(12)
    data_64 = 0xFFFFFFFF
    while len(header := file.read(8)) == 8:
        name, length = struct.unpack(order + "4sI", header)
        if name == b"ds64":  # EBU Tech 3306: riff, data and sample count in 64 bits
            _, data_64 = struct.unpack(order + "QQ", file.read(16).ljust(16, b"\xff"))
            length -= 16
        if name == b"data":
            return file.tell() + (data_64 if length == 0xFFFFFFFF else length)
        file.seek(length + (length & 1), os.SEEK_CUR)
    return 0
