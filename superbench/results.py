"""What a run leaves on disk: predictions, the head, and `result.json` last. "It exists" means "it is whole"."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from superbench.contracts import Prediction, Result, canonical_json
from superbench.errors import IntegrityError
from superbench.writing import write_whole

RESULT = "result.json"
SCHEMA = 1


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """One JSON object per line, sorted by partition and utterance."""
    lines = [canonical_json(asdict(p)) for p in sorted(predictions, key=lambda p: (p.partition, p.id))]
    write_whole(path, ("\n".join(lines) + "\n").encode())


def write_result(folder: Path, result: Result) -> None:
    """The marker that a run is finished."""
    write_whole(folder / RESULT, (canonical_json(result.to_json()) + "\n").encode())


def read_result(folder: Path) -> Result:
    """Read a finished run back; refuse a file of another schema or with a field missing."""
    from pydantic import TypeAdapter, ValidationError

    path = folder / RESULT
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.get("schema") != SCHEMA:
            raise IntegrityError(
                f"{path} has schema {data.get('schema')}, this superbench reads {SCHEMA}",
                "use the version of superbench that wrote it, or a newer one",
            )
        return TypeAdapter(Result).validate_python(data)
    except (OSError, ValueError, ValidationError, AttributeError) as exc:
        raise IntegrityError(f"{path} is damaged: {exc}", "move its folder away and run the command again") from exc
