"""What there is and how it is told: light, results on stdout, everything else on stderr, JSON where it is asked for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from superbench.pipeline import opening
from superbench.version import __version__

LIGHT = """
import sys
from superbench.cli.main import invoke
code = invoke(sys.argv[1:])
heavy = {"torch", "torchaudio", "transformers", "pandas", "numpy", "sklearn", "sqlalchemy", "pydantic", "soundfile"}
print(sorted(heavy & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(
    "arguments",
    ["list --json", "--help", "run --help", "show ks", "plugins", "leaderboard show --help", "store ls", "--version"],
)
def test_looking_around_loads_nothing_heavy(arguments):
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, *arguments.split()], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "[]\n"), done.stderr
    assert done.stdout


@pytest.fixture
def arguments(tones, tmp_path):
    run = ("-u", "fbank_no_cmvn", "-t", "ks", "--data", tones, "--steps", 4, "--lr", "1e-2")
    return {
        "list": ("list",),
        "show": ("show", "asr"),
        "plugins": ("plugins",),
        "doctor": ("doctor",),
        "plan": ("plan", *run),
        "run": ("run", *run),
        "corpus check": ("corpus", "check", "-t", "ks", "--data", tones),
        "extract": ("extract", "-u", "mfcc", "--out", tmp_path / "x.npz", tones.with_name("dev00.wav")),
        "leaderboard show": ("leaderboard", "show"),
    }


@pytest.mark.parametrize(
    "name", ["list", "show", "plugins", "doctor", "plan", "run", "corpus check", "extract", "leaderboard show"]
)
def test_json_is_all_that_stands_on_stdout(name, arguments, superbench):
    if name == "leaderboard show":
        assert superbench(*arguments["run"]).code == 0
    ended = superbench(*arguments[name], "--json")
    assert ended.code == 0, ended.err
    assert ended.json is not None
    for_people = superbench(*arguments[name])
    assert for_people.code == 0
    with pytest.raises(json.JSONDecodeError):
        json.loads(for_people.out or "{")


def test_progress_is_on_stderr_and_quiet_is_quiet(arguments, superbench, tmp_path):
    loud = superbench("--home", tmp_path / "a", *arguments["run"])
    assert ("features" in loud.err, "training" in loud.err, "features: 24/24" in loud.out) == (True, True, False)
    assert "accuracy" in loud.out
    quiet = superbench("--home", tmp_path / "b", "-q", *arguments["run"])
    assert (quiet.err, quiet.out) == ("", loud.out)


def test_version_help_and_no_command(superbench):
    assert superbench("--version").out == f"superbench, version {__version__}\n"
    assert "Exit codes: 0 ok" in superbench("--help").out
    for command in ("run", "plan", "extract", "list", "show", "plugins", "doctor", "corpus", "store", "leaderboard"):
        assert command in superbench("--help").out
        assert superbench(command, "--help").code == 0


def test_our_own_fault_is_told_as_such_and_kept_in_a_log(superbench, monkeypatch, tmp_path):
    def broken(*_):
        raise ZeroDivisionError("never mind")

    monkeypatch.setattr(opening, "open_upstream", broken)
    home = tmp_path / "home"
    ended = superbench("--home", home, "run", "-u", "fbank", "-t", "ks")
    assert (ended.code, ended.out) == (1, "")
    assert "its own fault: ZeroDivisionError: never mind" in ended.err
    assert "Traceback" not in ended.err
    (log,) = home.rglob("*.log")
    assert str(log) in ended.err
    assert "in broken" in log.read_text()
    assert "Traceback" in superbench("--home", home, "--debug", "run", "-u", "fbank", "-t", "ks").err


def test_options_of_the_program_may_stand_anywhere(superbench, plugin, tmp_path):
    path = plugin("from superbench.plugin import hookimpl\n@hookimpl\ndef superbench_result(result): pass\n")
    for arguments in (
        ("-p", path, "plugins", "--json"),
        ("plugins", "-p", path, "--json"),
        ("plugins", f"--plugin={path}", "--json"),
        ("plugins", f"-p{path}", "--json", "-q", "--home", tmp_path),
    ):
        names = [r["provenance"]["plugin"] for r in superbench(*arguments).json]
        assert names[-1] == "mine"
