"""`python -m tests.golden.protocols`: freeze every task's present version, where that is new."""

from __future__ import annotations

import sys

import superbench_tasks
from tests.golden.protocols import file_of, freeze

if __name__ == "__main__":
    for task in superbench_tasks.superbench_tasks():
        new = not file_of(task).exists()
        try:
            path = freeze(task)
        except FileExistsError as error:
            sys.exit(str(error))
        print(f"{path.name}: {'written' if new else 'as it was'}")
