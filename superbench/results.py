"""What a run leaves on disk: predictions, the head, and `result.json` last. "It exists" means "it is whole".

`result.json` names every file beside it with its SHA-256, and ends the chain with a checksum of itself: the SHA-256 of
its own canonical JSON without that one field. What was changed since, by a disk or by hand, is told and never read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from superbench.contracts import Prediction, Result, canonical_json, sha256_of
from superbench.errors import IntegrityError
from superbench.writing import write_whole

RESULT = "result.json"
SCHEMA = 2  # 1 had neither `files` nor a checksum
CHECKSUM = "checksum"
MEND = "move its folder away and run the command again"


def prediction_lines(predictions: Sequence[Prediction]) -> bytes:
    """One JSON object per line, sorted by partition and utterance."""
    lines = [canonical_json(asdict(p)) for p in sorted(predictions, key=lambda p: (p.partition, p.id))]
    return ("\n".join(lines) + "\n").encode()


def write_files(folder: Path, contents: Mapping[str, bytes]) -> dict[str, str]:
    """Write the files of one seed by their names, and return their SHA-256: the `files` of its `Result`."""
    for name, content in contents.items():
        write_whole(folder / name, content)
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def write_result(folder: Path, result: Result) -> None:
    """The marker that a run is finished."""
    data = json.loads(canonical_json(result.to_json()))  # the types it is read back in
    write_whole(folder / RESULT, _sealed(data).encode())


def read_result(folder: Path) -> Result:
    """Read a finished run back; `IntegrityError` where one byte of its folder is not what was written.

    Refused are a file of another schema or with a field missing, a checksum that does not fit, and a file beside it
    that is missing or changed.
    """
    from pydantic import TypeAdapter, ValidationError

    path = folder / RESULT
    try:
        text = path.read_bytes().decode()
        data = json.loads(text)
        if data.get("schema") != SCHEMA:
            raise IntegrityError(
                f"{path} has schema {data.get('schema')}, this superbench reads {SCHEMA}",
                "use the version of superbench that wrote it, or a newer one",
            )
        check_seal(text, data)
        del data[CHECKSUM]
        result: Result = TypeAdapter(Result).validate_python(data)
    except IntegrityError as exc:
        exc.message = exc.message if str(path) in exc.message else f"{path} is damaged: {exc.message}"
        raise
    except (OSError, ValueError, ValidationError, AttributeError) as exc:
        raise IntegrityError(f"{path} is damaged: {exc}", MEND) from exc
    _check_files(folder, result.files)
    return result


def check_seal(text: str, data: Mapping[str, Any]) -> None:
    """Raise `IntegrityError` where the text of a `result.json`, read as `data`, is not as it was written."""
    try:
        whole = text == _sealed(data)
    except ValueError:  # a NaN, or half a surrogate pair: no canonical JSON
        whole = False
    if not whole:
        raise IntegrityError("its checksum does not fit: it was changed after it was written", MEND)


def _sealed(data: Mapping[str, Any]) -> str:
    body = {name: value for name, value in data.items() if name != CHECKSUM}
    return canonical_json({**body, CHECKSUM: sha256_of(body)}) + "\n"


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Every file of a finished run has the bytes that its result names."""
    found = []
    for name, expected in sorted(files.items()):
        try:
            with (folder / name).open("rb") as stream:
                changed = hashlib.file_digest(stream, "sha256").hexdigest() != expected
        except OSError as exc:
            found.append(f"{folder / name} cannot be read: {exc.strerror or exc}")
            continue
        if changed:
            found.append(f"{folder / name} is not what was written")
    if found:
        raise IntegrityError(f"a finished run is damaged: {'; '.join(found)}", MEND)
