"""What the READMEs tell a newcomer to type works as printed; a command that no rule here can run fails the test.

The commands run in a folder that holds what they name: a tiny synthetic corpus, a tiny random HuBERT, an emodb.csv.
They are changed by `PLACES`, which puts things here where the README has them elsewhere, and by `SHORT`, which keeps
training short; by nothing else.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sounds import make_tones, write_manifest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WINGS = ("upstreams", "downstreams", "tasks", "leaderboard")
FIRST = "--upstream huggingface:checkpoint=/models/my-hubert --task ks,sid,er --corpus /corpora"
PLACES = {
    "superbench plan ...": f"superbench plan {FIRST}",
    "/corpora": "demo/corpus",
    "/models/my-hubert": "my-hubert",
    "ROOT": "demo/corpus",
    "NAME": "fbank",
    "--device cuda": "--device cpu",
    "superbench --home demo/home leaderboard": "superbench leaderboard",  # the demo's own home is not here
}
SHORT = {
    "superbench plan": f" {FIRST}",  # the whole command: "in place of `run`"
    "superbench run": " --steps 4 --lr 1e-2",
    "--task asr": " --head blstm:hidden=8,projector=8",
    "corpus synthesize": " --size tiny",
}


def _blocks(text: str) -> list[tuple[str, str]]:
    """Language and text of every fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def _inline(text: str) -> list[str]:
    """Code within sentences, also where it goes over the end of a line."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for part in prose.split("\n\n") for code in re.findall(r"`([^`]+)`", part)]


def _lines(block: str) -> Iterator[str]:
    """The commands of one block, without comments."""
    for line in block.splitlines():
        command = shlex.join(shlex.split(line, comments=True))
        if command:
            yield command


def _arguments(command: str) -> list[str]:
    """What is typed after `superbench`, for this folder and for a short run."""
    for where, more in SHORT.items():
        checked = command.startswith("superbench corpus check") and where == "--task asr"  # which trains no head
        if command == where or (where != "superbench plan" and where in command and not checked):
            command += more
    for there, here in PLACES.items():
        command = command.replace(there, here)
    program, *arguments = shlex.split(command)
    assert program == "superbench", f"no rule of this test can run: {command}"
    return arguments


def _plugin_of(wing: str) -> str:
    """The block of a wing's README that is a whole plugin."""
    return next(t for language, t in _blocks(_wing(wing)) if language == "python" and "@hookimpl" in t)


def _wing(wing: str) -> str:
    return (ROOT / wing / "README.md").read_text(encoding="utf-8")


def _save_hubert(folder: Path) -> None:
    import torch

    from superbench import torchaudio_loader

    torchaudio_loader.load()  # before anything imports transformers
    transformers: Any = pytest.importorskip("transformers", reason="transformers (the extra 'hf') is not installed")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.HubertConfig(
            conv_dim=[16] * 7,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=2,
        )
        transformers.HubertModel(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)


def _write_emodb(path: Path) -> None:
    """Three folds of sounds of 22050 Hz, of which one has no label."""
    folds = make_tones(path.with_name("emodb"), {"train": 6, "dev": 6, "test": 6}, rate=22050).with_name("folds.csv")
    with folds.open(encoding="utf-8", newline="") as stream:
        rows = [
            {
                "path": f"emodb/{row['path']}",
                "speaker": row["speaker"],
                "label4": row["label"],
                "fold": {"train": "1", "dev": "2", "test": "3"}[row["split"]],
            }
            for row in csv.DictReader(stream)
        ]
    rows[-1]["label4"] = ""
    write_manifest(path, rows)


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the READMEs name."""
    pytest.importorskip("espeakng_loader", reason="espeakng-loader (the extra 'demo') is not installed")
    from superbench_tasks.synthesis.trees import synthesize_corpus

    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "demo").mkdir()
    synthesize_corpus(folder / "demo" / "corpus", size="tiny")
    _save_hubert(folder / "my-hubert")
    _write_emodb(folder / "emodb.csv")
    tones = make_tones(folder / "tones", {"train": 6, "dev": 3, "test": 3})
    (folder / "langid.csv").write_text(re.sub(r"(?m)^(\w+\.wav)", r"tones/\1", tones.read_text()))
    for copy, original in {"a.wav": "train00.wav", "b.wav": "train01.wav"}.items():
        shutil.copy(tones.with_name(original), folder / copy)
    (folder / "upstreams").mkdir()
    (example,) = (t for language, t in _blocks(README) if language == "python" and "@hookimpl" in t)
    (folder / "upstreams" / "example.py").write_text(example)
    for wing, name in {"tasks": "langid.py", "downstreams": "attentive.py", "leaderboard": "my_listener.py"}.items():
        (folder / name).write_text(_plugin_of(wing))
    return folder


@pytest.fixture
def place(furnished, monkeypatch):
    monkeypatch.chdir(furnished)
    return furnished


def test_every_command_of_the_readme_runs(place, superbench):
    for language, block in _blocks(README):
        if language == "sh":
            for command in _lines(block):
                if not command.startswith("make "):  # make: as text, below
                    ended = superbench(*_arguments(command))
                    assert ended.code == 0, f"{command}\n{ended.err}"
        elif language == "python" and "@hookimpl" in block:
            assert block == (ROOT / "upstreams" / "example.py").read_text(encoding="utf-8")
        elif language == "python":
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                exec(compile(block, "README.md", "exec"), {})
            assert re.fullmatch(r"accuracy [01]\.\d+\n", said.getvalue())
        else:
            pytest.fail(f"no rule of this test can run this block:\n{block}")
    tables = superbench("leaderboard", "show").out
    for name in ("fbank_no_cmvn", "spectrum", "huggingface"):
        assert name in tables
    with (place / "leaderboard.csv").open(encoding="utf-8", newline="") as stream:
        assert {row["task"] for row in csv.DictReader(stream)} == {"asr", "pr", "sid", "er", "ks"}


def test_commands_within_sentences_run(place, superbench):
    found = [code for code in _inline(README) if code.startswith("superbench ")]
    assert len(found) >= 6
    assert superbench(*_arguments("superbench run -u fbank -t ks --corpus demo/corpus")).code == 0  # a row to show
    for command in found:
        ended = superbench(*_arguments(command))
        assert ended.code == 0, f"{command}\n{ended.err}"
    import numpy as np

    with np.load(place / "feats.npz") as features:
        assert {name: features[name].ndim for name in ("a", "b")} == {"a": 3, "b": 3}


def test_make_names_the_programs_that_the_readme_promises():
    if shutil.which("make") is None:
        pytest.skip("make is not installed here")
    typed = [
        c for language, block in _blocks(README) if language == "sh" for c in _lines(block) if c.startswith("make")
    ]
    assert typed == ["make demo", "make test"]
    demo, test = (
        subprocess.run(["make", "-n", *c.split()[1:]], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for c in typed
    )
    assert "bin/superbench --home demo/home corpus synthesize --out demo/corpus" in demo
    tasks = {task for names in re.findall(r"-t ([\w,]+)", demo) for task in names.split(",")}
    assert tasks == {"asr", "pr", "sid", "er", "ks"}
    assert "for upstream in fbank_no_cmvn spectrum;" in demo
    assert "leaderboard export --csv leaderboard.csv" in demo
    assert re.search(r"bin/python -m pytest .*tests$", test, flags=re.MULTILINE)


def test_options_within_sentences_exist(superbench):
    known = " ".join(superbench(*c, "--help").out for c in ((), ("run",), ("plan",), ("extract",), ("corpus", "check")))
    options = {code.split()[0] for code in _inline(README) if code.startswith("-")}
    assert "--layers" in options
    assert {o for o in options if not re.search(rf"(?<![\w-]){o}(?![\w-])", known)} == set()


def test_links_lead_somewhere():
    for readme in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / wing / "README.md" for wing in WINGS)):
        for target in re.findall(r"\]\(([^)#]+)", readme.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (readme.parent / target).is_file(), f"{readme}: {target}"


@pytest.mark.parametrize("wing", ["upstreams", "downstreams"])
def test_the_run_of_a_wing_works_as_printed(wing, place, superbench):
    (block,) = (t for language, t in _blocks(_wing(wing)) if language in ("", "sh"))
    for command in _lines(block):
        ended = superbench(*_arguments(command), "--json")
        assert ended.code == 0, f"{command}\n{ended.err}"
        (result,) = ended.json
        assert result["upstream"] == {"upstreams": "spectrum", "downstreams": "fbank"}[wing]
        assert result["head"] == {"upstreams": "pooled_linear", "downstreams": "attentive"}[wing]


def test_the_task_of_its_readme_is_checked_and_run(place, superbench):
    (command,) = (c for c in _inline(_wing("tasks")) if c.startswith("superbench -p"))
    checked = superbench(*_arguments(command))
    assert checked.code == 0, checked.err
    run = superbench(*_arguments("superbench run -p langid.py -u fbank -t langid --data langid.csv --json"))
    assert run.code == 0, run.err
    assert (run.json[0]["task"], run.json[0]["scores"][0]["denominator"]) == ("langid", 3)


def test_the_task_that_reads_characters_is_run(place, superbench, tmp_path):
    _, text = (t for language, t in _blocks(_wing("tasks")) if language == "python" and "@hookimpl" in t)
    (tmp_path / "spelling.py").write_text(text)
    arguments = ("-u", "fbank_no_cmvn", "-t", "spelling", "--data", "tones/manifest.csv", "--steps", 2, "--lr", "1e-3")
    ended = superbench("run", "-p", tmp_path / "spelling.py", *arguments, "--json")
    assert ended.code == 0, ended.err
    assert [s["metric"] for s in ended.json[0]["scores"]] == ["wer", "uer"]


def test_the_listener_of_its_readme_hears_a_result(place, superbench):
    (command,) = (c for c in _inline(_wing("leaderboard")) if c.startswith("superbench -p"))
    ended = superbench(
        *_arguments(command.replace("run ...", "run -u fbank -t ks --data tones/manifest.csv --steps 4 --lr 1e-2"))
    )
    assert ended.code == 0, ended.err
    assert re.search(r"^ks fbank [01]\.\d+$", ended.out + ended.err, flags=re.MULTILINE)
