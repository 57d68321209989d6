"""A task's constants are frozen with its version: another number is another version, and old ones are kept."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from golden.protocols import FOLDER, file_of, freeze, frozen

import superbench_tasks
from superbench.plugin import TaskProtocol

TASKS = {task.name: task for task in superbench_tasks.superbench_tasks()}
EVERY_VERSION = ("asr-1.0", "er-1.0", "ks-1.0", "pr-1.0", "sid-1.0")  # add to this; nothing is ever taken out


@pytest.mark.parametrize("name", TASKS)
def test_no_constant_changes_without_a_new_version(name):
    file = file_of(TASKS[name])
    assert file.is_file(), f"{file.name} is missing: python -m tests.golden.protocols"
    assert file.read_text(encoding="utf-8") == frozen(TASKS[name]), f"{name} is not {file.name}: bump the version"


def test_no_version_is_forgotten():
    there = {path.stem for path in FOLDER.glob("*.json")}
    assert there == set(EVERY_VERSION), "versions are added to EVERY_VERSION, and never removed"
    assert {file_of(task).stem for task in TASKS.values()} <= there


@pytest.mark.parametrize("name", TASKS)
def test_the_file_holds_every_constant(name):
    task = TASKS[name]
    said = json.loads(file_of(task).read_text(encoding="utf-8"))
    assert said["version"] == task.version
    assert said["protocol"].keys() == {field.name for field in fields(task.protocol)}
    assert {field.name for field in fields(TaskProtocol)} < said["protocol"].keys()
    assert len(said["departures"]) == len(task.departures) > 0


def test_what_is_frozen_is_never_written_over(tmp_path):
    task = TASKS["ks"]
    path = freeze(task, tmp_path)
    assert path.name == f"ks-{task.version}.json"
    assert freeze(task, tmp_path) == path
    before = path.read_text(encoding="utf-8")
    changed = replace(task, protocol=replace(task.protocol, gain_db=0.0))
    with pytest.raises(FileExistsError, match="bump the version of ks"):
        freeze(changed, tmp_path)
    fewer = replace(task, departures=task.departures[1:])
    with pytest.raises(FileExistsError, match="bump the version of ks"):
        freeze(fewer, tmp_path)
    assert path.read_text(encoding="utf-8") == before
    assert freeze(replace(changed, version="9.9"), tmp_path).name == "ks-9.9.json"
    assert path.read_text(encoding="utf-8") == before
    explained = replace(task, departures=tuple(replace(d, effect="measured anew") for d in task.departures))
    assert freeze(explained, tmp_path) == path  # why, and how much, may be said better
