"""The door: every way in, every way to be broken, and that one broken plugin harms nobody else."""

import dataclasses
import os
import pickle
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from superbench.contracts import Settings
from superbench.errors import DataError, PluginError, UsageError
from superbench.registry import Registry

HEADER = """
from dataclasses import dataclass
from superbench.plugin import *
from superbench.plugin import hookimpl
def load(options, device): raise AssertionError("never loaded here")
"""
GOOD = """
@hookimpl
def superbench_upstreams():
    yield UpstreamSpec(name={name!r}, load=load)
"""


@pytest.fixture(autouse=True)
def no_plugins_from_the_environment(monkeypatch):
    monkeypatch.delenv("SUPERBENCH_PLUGINS", raising=False)


@pytest.fixture
def write(tmp_path):
    """Write a plugin file and return its path as text."""

    def write_file(name, body, header=HEADER):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(header + textwrap.dedent(body))
        return str(file)

    return write_file


def load(*plugins):
    return Registry.load(plugins, entry_points=False)


def good(name):
    return GOOD.format(name=name)


# -- ways in -----------------------------------------------------------------------------------------------------------


def test_a_file_comes_in_with_its_provenance(write):
    file = write("mine.py", good("mine"))
    registry = load(file)
    found = registry.upstream("mine")
    assert found.spec.name == "mine"
    assert (found.provenance.plugin, found.provenance.file) == ("mine", file)
    (record,) = registry.records
    assert (record.argument, record.brings, record.error, record.blocked) == (file, ("upstream mine",), "", False)
    assert not list(Path(file).parent.glob("__pycache__"))


def test_the_strangers_upstream_of_the_design_comes_in_whole(write):
    file = write(
        "stranger.py",
        """
        from __future__ import annotations
        from dataclasses import dataclass
        from superbench.plugin import Layers, UpstreamSpec, hookimpl

        @dataclass(frozen=True)
        class Options:
            checkpoint: str

        def load(options, device):
            import torch
            return torch.jit.load(options.checkpoint, map_location=device).eval()

        @hookimpl
        def superbench_upstreams():
            yield UpstreamSpec(name="mine", options=Options, load=load, summary="my distilled HuBERT")
        """,
        header="",
    )
    kind = load(file).upstream("mine").spec.options
    assert pickle.loads(pickle.dumps(kind("x"))) == kind("x")


def test_two_files_of_one_name_do_not_collide(write):
    first, second = write("a/mine.py", good("one")), write("b/mine.py", good("two"))
    registry = load(first, second)
    assert set(registry.upstreams) == {"one", "two"}
    assert [r.provenance.plugin for r in registry.records] == ["mine", f"mine@{second}"]
    assert registry.upstream("one").spec.load is not registry.upstream("two").spec.load


def test_a_file_asked_for_twice_comes_once(write, monkeypatch):
    file = write("mine.py", good("mine"))
    monkeypatch.chdir(Path(file).parent)
    assert len(load(file, "mine.py", "./mine.py").records) == 1


def test_loading_twice_gives_the_same_and_a_changed_file_is_executed_anew(write):
    file = write("mine.py", good("mine"))
    first, again = load(file), load(file)
    assert first.upstream("mine").spec.load is again.upstream("mine").spec.load
    write("mine.py", good("other"))
    assert set(load(file).upstreams) == {"other"}
    assert set(first.upstreams) == {"mine"}


def test_a_module_comes_in_by_its_dotted_name(write, tmp_path, monkeypatch):
    write("pack_of_registry_test/__init__.py", "", header="")
    write("pack_of_registry_test/inner.py", good("inner"))
    monkeypatch.syspath_prepend(tmp_path)
    registry = load("pack_of_registry_test.inner")
    assert registry.upstream("inner").provenance.plugin == "pack_of_registry_test.inner"
    assert registry.upstream("inner").provenance.file == str(tmp_path / "pack_of_registry_test" / "inner.py")


def distribution(folder, name, version, entry_points):
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entry_points)


def test_an_installed_distribution_comes_in_by_its_entry_point(write, tmp_path, monkeypatch):
    write("dist_of_registry_test.py", good("dist"))
    distribution(tmp_path, "stranger", "1.2", "[superbench]\nmine = dist_of_registry_test\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry.load()
    who = registry.upstream("dist").provenance
    assert (who.plugin, who.distribution, who.version) == ("mine", "stranger", "1.2")
    assert who.file == str(tmp_path / "dist_of_registry_test.py")
    assert [r.provenance.plugin for r in registry.records if r.provenance.distribution == "superbench"] == [
        "downstreams",
        "leaderboard",
        "tasks",
        "upstreams",
    ]
    assert registry.records[-1].provenance == who  # strangers come after our own
    asked_again = Registry.load(["dist_of_registry_test"])
    assert [r.provenance for r in asked_again.records] == [r.provenance for r in registry.records]


def test_two_distributions_may_call_their_plugins_the_same(write, tmp_path, monkeypatch):
    write("first_of_registry_test.py", good("first"))
    write("second_of_registry_test.py", good("second"))
    distribution(tmp_path, "aaa", "1", "[superbench]\nmine = first_of_registry_test\n")
    distribution(tmp_path, "bbb", "1", "[superbench]\nmine = second_of_registry_test\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry.load()
    assert registry.upstream("first").provenance.plugin == "mine"
    assert registry.upstream("second").provenance.plugin == "mine@bbb"


def test_broken_distributions_hide_no_other(write, tmp_path, monkeypatch):
    write("whole_of_registry_test.py", good("whole"))
    distribution(tmp_path, "aaa", "1", "[superbench]\nthis line says nothing\n")
    distribution(tmp_path, "bbb", "1", "[superbench]\ngone = module_that_is_not_there\n")
    distribution(tmp_path, "ccc", "1", "[superbench]\nnowhere = whole_of_registry_test:absent\n")
    distribution(tmp_path, "ddd", "1", "[superbench]\nx = whole_of_registry_test\ny = whole_of_registry_test\n")
    (tmp_path / "eee-1.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry.load()
    errors = {r.provenance.plugin: r.error for r in registry.records if r.error}
    assert "entry_points.txt cannot be read" in errors["aaa"]
    assert "No module named 'module_that_is_not_there'" in errors["gone"]
    assert "absent" in errors["nowhere"]
    assert "it came in as 'x' already" in errors["y"]
    assert registry.upstream("whole").provenance.plugin == "x"


def test_a_wheel_built_and_installed_by_pip_comes_in(tmp_path, write):
    """The real way of a stranger: pyproject.toml, a build, pip; then a fresh process."""
    pytest.importorskip("hatchling", reason="hatchling is not installed: no wheel can be built without the network")
    pytest.importorskip("pip", reason="pip is not installed in this environment")
    write("project/src_of_stranger/__init__.py", good("wheeled"))
    (tmp_path / "project" / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "superbench-stranger"\nversion = "3.1"\n'
        '[project.entry-points.superbench]\nstranger = "src_of_stranger"\n'
        '[tool.hatch.build.targets.wheel]\npackages = ["src_of_stranger"]\n'
    )
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-build-isolation", "--no-deps"]
    subprocess.run([*pip, "--target", str(site), str(tmp_path / "project")], check=True, timeout=120)
    code = "from superbench.registry import Registry; print(Registry.load().upstream('wheeled').provenance)"
    environment = os.environ | {"PYTHONPATH": str(site)}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "stranger (superbench-stranger 3.1)"


def test_the_environment_comes_before_the_arguments(write, monkeypatch):
    one, two, three = (write(f"{name}.py", good(name)) for name in ("one", "two", "three"))
    monkeypatch.setenv("SUPERBENCH_PLUGINS", os.pathsep.join([one, "no:two", "", two]))
    assert [r.provenance.plugin for r in load(three).records] == ["one", "two", "three"]
    assert set(load(three).upstreams) == {"one", "three"}
    monkeypatch.setenv("SUPERBENCH_PLUGINS", "no:")
    with pytest.raises(UsageError, match="SUPERBENCH_PLUGINS no:: there is no plugin ''"):
        load(three)


def test_importing_everything_loads_nothing_heavy():
    heavy = "torch torchaudio transformers pandas sklearn sqlalchemy alembic pydantic numpy soundfile"
    code = (
        "import sys; from superbench.registry import Registry; Registry.load(); "
        f"print([name for name in {heavy.split()} if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


# -- arguments that name nothing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "word"),
    [
        ("gone.py", "there is no such file"),
        ("sub/gone", "there is no such file"),
        ("./folder", "this is a folder"),
        ("folder.py", "this is a folder"),
        ("./model.pt", "a plugin file ends in .py"),
        ("model-file", "neither a file nor a module"),
        ("", "neither a file nor a module"),
        ("..mine", "neither a file nor a module"),
        ("module_not_there", "there is no module 'module_not_there'"),
        ("module_not_there.inner", "there is no module 'module_not_there'"),
        ("no:mien", "there is no plugin 'mien' to block"),
    ],
)
def test_an_argument_that_names_nothing_is_a_usage_error(argument, word, write, tmp_path, monkeypatch):
    mine = write("mine.py", good("mine"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "model.pt").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as refused:
        load(mine, argument)
    assert refused.value.message.startswith(f"-p {argument}: ")
    assert word in refused.value.message
    assert refused.value.hint


def test_the_mend_is_in_the_hint(write, monkeypatch, tmp_path):
    mine = write("mine.py", good("mine"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"hint: did you mean 'mine'\?"):
        load("no:mien", mine)
    with pytest.raises(UsageError, match=r"hint: for the file in this folder, write mine\.py"):
        load("mine")


# -- blocked -----------------------------------------------------------------------------------------------------------


def test_a_blocked_plugin_is_listed_and_not_even_imported(write):
    loud = write("loud.py", "raise AssertionError('imported')")
    for order in ((loud, "no:loud"), ("no:loud", loud)):
        (record,) = load(*order).records
        assert record.blocked
        assert (record.error, record.brings) == ("", ())


def test_an_installed_plugin_can_be_blocked():
    with pytest.raises(UsageError) as refused:
        Registry.load(["no:tasks"]).task("asr")
    assert "plugin tasks (superbench" in refused.value.hint
    assert "is blocked" in refused.value.hint


# -- broken ------------------------------------------------------------------------------------------------------------

BROKEN = {
    "raises at import": ("raise ValueError('no weights here')", "ValueError: no weights here"),
    "missing module": ("import module_not_there", "ModuleNotFoundError: No module named 'module_not_there'"),
    "syntax": ("def broken(:", "SyntaxError: invalid syntax (broken.py, line 6)"),
    "null byte": ("x = '\0'", "null byte"),
    "exits at import": ("import sys; sys.exit(3)", "it called sys.exit(3)"),
    "raises in the hook": ("@hookimpl\ndef superbench_upstreams(): raise KeyError('x')", "KeyError: 'x'"),
    "exits in the hook": ("@hookimpl\ndef superbench_upstreams(): raise SystemExit", "it called sys.exit(None)"),
    "raises after a yield": (good("half") + "    raise OSError('late')", "OSError: late"),
    "wrong type": ("@hookimpl\ndef superbench_upstreams(): yield 'fbank'", "superbench_upstreams yielded 'fbank'"),
    "yields None": ("@hookimpl\ndef superbench_tasks(): yield None", "let it `yield TaskSpec(...)`"),
    "returns None": ("@hookimpl\ndef superbench_upstreams(): pass", "superbench_upstreams returned None"),
    "wrong hook's spec": (
        "@hookimpl\ndef superbench_downstreams(): yield UpstreamSpec(name='x', load=load)",
        "let it `yield DownstreamSpec(...)`",
    ),
    "the class for the spec": (
        "@hookimpl\ndef superbench_upstreams(): yield UpstreamSpec",
        "superbench_upstreams yield",
    ),
    "misspelt hook": ("@hookimpl\ndef superbench_upstream(): yield 1", "there is no hook 'superbench_upstream'"),
    "misspelt hook, mend": ("@hookimpl\ndef superbench_upstream(): yield 1", "did you mean 'superbench_upstreams'"),
    "misspelt specname": (
        "@hookimpl(specname='superbench_upstrems')\ndef f(): yield 1",
        "no hook 'superbench_upstrems'",
    ),
    "unknown argument": ("@hookimpl\ndef superbench_result(results): pass", "has no argument 'results'"),
    "unknown argument, mend": ("@hookimpl\ndef superbench_result(results): pass", "did you mean 'result'"),
    "argument to a hook without": ("@hookimpl\ndef superbench_tasks(task): yield 1", "has no argument 'task'"),
    "not marked": ("def superbench_upstreams(): yield 1", "superbench_upstreams is not marked @hookimpl"),
    "half marked": (good("x") + "def superbench_tasks(): yield 1", "superbench_tasks is not marked @hookimpl"),
    "empty": ("", "no function is marked @hookimpl"),
    "wrapper": ("@hookimpl(wrapper=True)\ndef superbench_tasks(): return (yield)", "is marked as a wrapper"),
    "name with a space": (good("my model"), "UpstreamSpec has the name 'my model'"),
    "name with a colon": (good("a:b"), "UpstreamSpec has the name 'a:b'"),
    "name that climbs": (good("../x"), "UpstreamSpec has the name '../x'"),
    "empty name": (good(""), "UpstreamSpec has the name ''"),
    "endless name": (good("x" * 300), "UpstreamSpec has the name"),
    "name of another type": (good(5), "UpstreamSpec has the name 5"),
    "missing field": ("@hookimpl\ndef superbench_upstreams(): yield UpstreamSpec(name='x')", "TypeError: "),
    "unknown field": ("@hookimpl\ndef superbench_upstreams(): yield UpstreamSpec(name='x', lod=load)", "'lod'"),
    "load is no function": (
        "@hookimpl\ndef superbench_upstreams(): yield UpstreamSpec(name='x', load='load')",
        "the upstream 'x' has load='load'",
    ),
    "reads something else": (
        "@hookimpl\ndef superbench_downstreams(): yield DownstreamSpec(name='x', build=load, reads='waves')",
        "the downstream 'x' has reads='waves'",
    ),
    "no protocol": (
        (
            "@hookimpl\ndef superbench_tasks():\n"
            "    yield TaskSpec(name='x', version='1', protocol={}, column='label', labels=load)"
        ),
        "the task 'x' has protocol={}",
    ),
    "options that thaw": (
        (
            "@dataclass\nclass Options: a: int = 1\n@hookimpl\n"
            "def superbench_upstreams(): yield UpstreamSpec(name='x', load=load, options=Options)"
        ),
        "not a frozen dataclass",
    ),
    "options, an instance": (
        "@hookimpl\ndef superbench_upstreams(): yield UpstreamSpec(name='x', load=load, options=NoOptions())",
        "options=Options, the class itself",
    ),
    "options, a plain class": (
        "@hookimpl\ndef superbench_upstreams(): yield UpstreamSpec(name='x', load=load, options=dict)",
        "not a frozen dataclass",
    ),
    "a command that is none": (
        "@hookimpl\ndef superbench_commands(): yield CommandSpec(command=print)",
        "CommandSpec has the name None",
    ),
    "a command under no text": (
        "import click\n@hookimpl\ndef superbench_commands(): yield CommandSpec(command=click.Command('x'), under=None)",
        "the command 'x' has under=None",
    ),
    "the same name twice": (good("x") + good("x").split("\n", 3)[3], "the upstream 'x' comes from broken"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_listed_and_the_others_work(case, write):
    body, error = BROKEN[case]
    before, broken, after = write("before.py", good("a")), write("broken.py", body), write("after.py", good("b"))
    registry = load(before, broken, after)
    assert set(registry.upstreams) == {"a", "b"}
    assert [bool(r.error) for r in registry.records] == [False, True, False]
    record = registry.records[1]
    assert error in record.error
    assert "Traceback" in record.traceback
    assert record.brings == ()
    assert (registry.commands, dict(registry.downstreams), dict(registry.tasks)) == ((), {}, {})
    for name in ("broken", broken):
        with pytest.raises(PluginError) as raised:
            registry.raise_if_broken([name])
        assert error in raised.value.message
        assert broken in raised.value.message
    registry.raise_if_broken(["before", after])


def test_nothing_of_a_plugin_stays_when_one_of_its_hooks_fails(write, capsys):
    file = write(
        "half.py",
        good("half")
        + "import click\n"
        + "@hookimpl\ndef superbench_commands(): yield click.Command('half')\n"
        + "@hookimpl\ndef superbench_result(result): print('heard')\n"
        + "@hookimpl\ndef superbench_recipes(): raise ValueError('late')\n",
    )
    registry = load(file)
    assert (dict(registry.upstreams), registry.commands, registry.listeners) == ({}, (), ())
    assert registry.announce(result(), settings()) == ()
    assert "heard" not in "".join(capsys.readouterr())


def test_a_failed_file_is_executed_anew_the_next_time(write, tmp_path):
    file = write("mine.py", "from pathlib import Path\nPath(__file__).with_name('weights').read_bytes()" + good("mine"))
    assert "FileNotFoundError" in load(file).records[0].error
    (tmp_path / "weights").write_bytes(b"")
    assert set(load(file).upstreams) == {"mine"}


def test_a_module_beside_the_file_is_named_in_the_error(write, tmp_path):
    write("model_beside_plugin.py", "", header="")
    (record,) = load(write("mine.py", "import model_beside_plugin")).records
    assert f"hint: it lies beside the plugin: set PYTHONPATH={tmp_path}" in record.error


def test_what_a_plugin_prints_goes_to_stderr(write, capsys):
    file = write("loud.py", "print('at import')" + good("x") + "    print('in the hook')\n")
    assert set(load(file).upstreams) == {"x"}
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "at import\nin the hook\n"


def test_an_interrupt_is_no_broken_plugin(write):
    with pytest.raises(KeyboardInterrupt):
        load(write("mine.py", "raise KeyboardInterrupt"))


# -- names -------------------------------------------------------------------------------------------------------------

ONE_OF_EACH = """
import click
@hookimpl
def superbench_upstreams(): {upstream}yield UpstreamSpec(name='same', load=load)
@hookimpl
def superbench_downstreams(): {downstream}yield DownstreamSpec(name='same', build=load, reads='pooled')
@hookimpl
def superbench_recipes(): {recipe}yield RecipeSpec(name='same', train=load)
@hookimpl
def superbench_tasks(): {task}yield TaskSpec(name='same', version='1', protocol=P, column='label', labels=load)
@hookimpl
def superbench_commands(): {command}yield CommandSpec(command=click.Command('same'), under='corpus')
P = TaskProtocol(head='h', objective='ctc', metrics=('wer',), steps=1, batch=1, accumulate=1, eval_every=1, clip=1.0,
                 lr_grid=(1e-3,))
"""
NOUNS = ("upstream", "downstream", "recipe", "task", "command")


@pytest.mark.parametrize("noun", NOUNS)
def test_a_taken_name_is_refused_naming_both_providers(noun, write):
    first = write("first.py", ONE_OF_EACH.format_map(dict.fromkeys(NOUNS, "")))
    skip = dict.fromkeys(NOUNS, "return; ") | {noun: ""}
    second = write("second.py", ONE_OF_EACH.format_map(skip))
    registry = load(first, second)
    error = registry.records[1].error
    shown = "corpus same" if noun == "command" else "same"
    assert f"the {noun} {shown!r} comes from first ({first}) and again from second ({second})" in error
    assert "hint: " in error
    assert registry.records[0].error == ""
    assert load(second).records[0].brings == (f"{noun} {shown}",)


def test_the_same_name_may_serve_different_kinds(write):
    registry = load(write("first.py", ONE_OF_EACH.format_map(dict.fromkeys(NOUNS, ""))))
    assert registry.upstream("same").spec is not registry.downstream("same").spec
    assert registry.task("same").spec.name == registry.recipe("same").spec.name == "same"
    assert registry.records[0].error == ""


def test_an_unknown_name_gets_near_names_and_the_broken_plugins(write):
    registry = load(write("mine.py", good("hubert_base")), write("bad.py", "import module_not_there"))
    with pytest.raises(PluginError) as refused:
        registry.upstream("hubert_bse")
    assert refused.value.message == "there is no upstream 'hubert_bse'"
    assert "did you mean 'hubert_base'?" in refused.value.hint
    assert "plugin bad" in refused.value.hint
    assert "No module named 'module_not_there'" in refused.value.hint
    with pytest.raises(UsageError, match="hubert_base"):
        load(write("whole.py", good("hubert_base"))).upstream("hubert_bse")
    for find in (registry.downstream, registry.task, registry.recipe):
        with pytest.raises(PluginError, match="there is none"):
            find("x")


def test_a_plain_click_command_is_put_at_the_top(write):
    file = write("mine.py", "import click\n@hookimpl\ndef superbench_commands(): yield click.Command('import-lhotse')")
    (command,) = load(file).commands
    assert (command.spec.command.name, command.spec.under) == ("import-lhotse", "")


def test_a_registry_cannot_be_changed(write):
    registry = load(write("mine.py", good("mine")))
    with pytest.raises(TypeError):
        registry.upstreams["other"] = registry.upstreams["mine"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        registry.records = ()


# -- listeners ---------------------------------------------------------------------------------------------------------


def settings():
    return Settings(store=Path("store"), runs=Path("runs"), database="sqlite://")


def result():
    """What a listener reads of a result here."""
    return SimpleNamespace(task="ks", folder="runs/ks", heard=[])


LISTENER = "@hookimpl\ndef superbench_result({arguments}):\n    {body}\n"


def test_listeners_hear_in_the_order_they_came_and_a_failing_one_stops_nobody(write, capsys):
    def plugin(name, body, arguments="result", mark="@hookimpl"):
        text = LISTENER.format(arguments=arguments, body=f"result.heard.append({name!r}); {body}")
        return write(f"{name}.py", text.replace("@hookimpl", mark))

    registry = load(
        plugin("one", "print(settings.database)", arguments="settings, result"),
        plugin("two", "raise ValueError('full')", mark="@hookimpl(trylast=True)"),
        plugin("three", "from superbench.errors import DataError; raise DataError('d', 'mend it')"),
        plugin("four", "raise SystemExit(9)", mark="@hookimpl(tryfirst=True)"),
        plugin("five", "pass"),
    )
    finished = result()
    wrapped, kept, left = registry.announce(finished, settings())
    assert finished.heard == ["one", "two", "three", "four", "five"]
    assert type(wrapped) is type(left) is PluginError
    assert "plugin two (" in wrapped.message
    assert "ValueError: full" in wrapped.message
    assert isinstance(wrapped.__cause__, ValueError)
    assert "runs/ks" in wrapped.hint
    assert type(kept) is DataError
    assert kept.hint == "mend it"
    assert "it called sys.exit(9)" in left.message
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "sqlite://\n")


def test_a_zipped_plugin_module_comes_in_too(write, tmp_path, monkeypatch):
    """A module without a file on disk is still a module."""
    archive = tmp_path / "plugins.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("zipped_of_registry_test.py", HEADER + good("zipped"))
    monkeypatch.syspath_prepend(archive)
    assert load("zipped_of_registry_test").upstream("zipped").spec.name == "zipped"
