"""Departures from the reference: said whole by every task, and told in the README as the tasks say them.

`python tests/tasks/test_departures.py` writes the README's table anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import superbench_tasks

README = Path(__file__).parents[2] / "README.md"
TASKS = {task.name: task for task in superbench_tasks.superbench_tasks()}
BLOCK = re.compile(r"<!-- departures -->\n(.*?)<!-- /departures -->", flags=re.DOTALL)


def table():
    tasks = {}
    for task in TASKS.values():
        for departure in task.departures:
            tasks.setdefault(departure, []).append(task.name)
    every = len(TASKS)
    rows = [
        f"| {'all' if len(names) == every else ', '.join(names)} | {d.what} | {d.why} | {d.effect} |"
        for d, names in tasks.items()
    ]
    return "\n".join(["| task | departure | why | effect on the score |", "| --- | --- | --- | --- |", *rows, ""])


@pytest.mark.parametrize("name", TASKS)
def test_every_departure_says_what_why_and_what_it_does(name):
    departures = TASKS[name].departures
    assert departures
    assert all(d.what and d.why and d.effect for d in departures)
    assert len({d.what for d in departures}) == len(departures)


def test_the_readme_tells_them_all():
    (told,) = BLOCK.findall(README.read_text(encoding="utf-8"))
    assert told == table()


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    README.write_text(
        BLOCK.sub(lambda _: f"<!-- departures -->\n{table()}<!-- /departures -->", text), encoding="utf-8"
    )
