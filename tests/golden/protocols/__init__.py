"""What each version of a task was: its constants and what it does otherwise than SUPERB, frozen in one file each.

`python -m tests.golden.protocols` writes the file of every version that has none; none is ever changed or removed.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from superbench.plugin import TaskSpec

FOLDER = Path(__file__).parent


def frozen(task: TaskSpec) -> str:
    """The text of a task's file: JSON with sorted keys. Why it departs, and what that does, are not frozen."""
    facts = {
        "version": task.version,
        "protocol": asdict(task.protocol),
        "departures": [departure.what for departure in task.departures],
    }
    return json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def file_of(task: TaskSpec, folder: Path = FOLDER) -> Path:
    """Where the present version of a task is frozen."""
    return folder / f"{task.name}-{task.version}.json"


def freeze(task: TaskSpec, folder: Path = FOLDER) -> Path:
    """Write the file of a new version; raises `FileExistsError` where it is there with other constants."""
    path = file_of(task, folder)
    if path.exists() and path.read_text(encoding="utf-8") != frozen(task):
        raise FileExistsError(f"{path.name} says otherwise: bump the version of {task.name}")
    path.write_text(frozen(task), encoding="utf-8")
    return path
