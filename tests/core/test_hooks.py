"""A hook is a promise: docstring, example, and a test plugin that fulfils it. This walks the list of hooks."""

import ast
import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from superbench.contracts import Settings
from superbench.plugin import Hooks
from superbench.registry import Registry

HOOKS = sorted(name for name in vars(Hooks) if name.startswith("superbench_"))

EVERYTHING = '''
"""A plugin that fulfils every hook."""
import click
from superbench.labels import ClassLabels
from superbench.plugin import *
from superbench.plugin import hookimpl

def load(options, device): ...
def build(options, width, classes): ...
def train(options, settings): ...
PROTOCOL = TaskProtocol(head="toy", objective="cross_entropy", metrics=("accuracy",), steps=1, batch=1, accumulate=1,
                        eval_every=1, clip=1.0, lr_grid=(1e-3,))

@hookimpl
def superbench_upstreams():
    yield UpstreamSpec(name="toy", load=load)

@hookimpl
def superbench_downstreams():
    yield DownstreamSpec(name="toy", build=build, reads="pooled")

@hookimpl
def superbench_tasks():
    yield TaskSpec(name="toy", version="1", protocol=PROTOCOL, column="label", labels=ClassLabels.sorted_from)

@hookimpl
def superbench_recipes():
    yield RecipeSpec(name="toy", train=train)

@hookimpl
def superbench_commands():
    yield click.Command("toy")
    yield CommandSpec(command=click.Command("toy"), under="corpus")

@hookimpl
def superbench_result(result, settings):
    result.heard.append(settings.database)
'''
BRINGS = {
    "superbench_upstreams": {"upstream toy"},
    "superbench_downstreams": {"downstream toy"},
    "superbench_tasks": {"task toy"},
    "superbench_recipes": {"recipe toy"},
    "superbench_commands": {"command toy", "command corpus toy"},
    "superbench_result": {"listener everything"},
}


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_says_what_it_is_and_shows_how(name):
    document = inspect.getdoc(getattr(Hooks, name))
    assert document.splitlines()[0].endswith(".")
    example = re.search(r"Example: `(.+?)`$", document, re.MULTILINE)
    assert example, f"{name} has no line 'Example: `...`'"
    ast.parse(f"def {name}():\n    {example[1]}")


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_specified_for_pluggy_and_never_called(name):
    hook = getattr(Hooks, name)
    assert hasattr(hook, "superbench_spec")
    with pytest.raises(AssertionError, match="never called"):
        hook(*[None] * len(inspect.signature(hook).parameters))


def test_a_plugin_can_fulfil_every_hook(tmp_path, monkeypatch):
    monkeypatch.delenv("SUPERBENCH_PLUGINS", raising=False)
    file = tmp_path / "everything.py"
    file.write_text(EVERYTHING)
    registry = Registry.load([str(file)], entry_points=False)
    (record,) = registry.records
    assert record.error == ""
    assert sorted(BRINGS) == HOOKS, "a new hook wants a line in EVERYTHING and in BRINGS"
    assert set(record.brings) == set().union(*BRINGS.values())
    result = SimpleNamespace(heard=[], folder="")
    assert registry.announce(result, Settings(store=Path("s"), runs=Path("r"), database="sqlite://")) == ()
    assert result.heard == ["sqlite://"]


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_heard(name, tmp_path, monkeypatch):
    """Take one hook out of the plugin, and exactly what it brought is gone."""
    monkeypatch.delenv("SUPERBENCH_PLUGINS", raising=False)
    tree = ast.parse(EVERYTHING)
    tree.body = [node for node in tree.body if getattr(node, "name", "") != name]
    file = tmp_path / "everything.py"
    file.write_text(ast.unparse(tree))
    (record,) = Registry.load([str(file)], entry_points=False).records
    assert record.error == ""
    assert set(record.brings) == set().union(*BRINGS.values()) - BRINGS[name]
