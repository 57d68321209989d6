"""Promise 6: what a stranger brings in one file each works as ours does, from the command line to the leaderboard."""

from __future__ import annotations

import pytest
import torch

# The upstream of the design document, word for word.
UPSTREAM = """\
from dataclasses import dataclass
from superbench.plugin import Layers, UpstreamSpec, hookimpl

@dataclass(frozen=True)
class Options:
    checkpoint: str                      # --upstream mine:checkpoint=PATH

def load(options, device):
    import torch
    net = torch.jit.load(options.checkpoint, map_location=device).eval()
    class Mine:
        sample_rate, strides, widths = 16000, (320,) * 13, (768,) * 13   # one entry per layer
        def num_frames(self, samples): return (samples - 80) // 320
        def __call__(self, waves):       # list of [n] float tensors -> one Layers each
            return [Layers(tuple(h[0] for h in net(w[None]))) for w in waves]
    return Mine()

@hookimpl
def superbench_upstreams():
    yield UpstreamSpec(name="mine", options=Options, load=load, summary="my distilled HuBERT")
"""
TASK = """
    from superbench.labels import ClassLabels
    from superbench.plugin import TaskProtocol, TaskSpec, hookimpl

    @hookimpl
    def superbench_tasks():
        yield TaskSpec(
            name="pitch",
            version="1",
            protocol=TaskProtocol(
                head="deep", objective="cross_entropy", metrics=("accuracy",), steps=30, batch=4, accumulate=2,
                eval_every=10, clip=1.0, lr_grid=(1e-2, 1e-3),
            ),
            column="label",
            labels=lambda references, official: ClassLabels.sorted_from(references),
            speakers="disjoint",
            summary="how high",
        )
"""
HEAD = """
    from dataclasses import dataclass
    from superbench.plugin import DownstreamSpec, hookimpl

    @dataclass(frozen=True)
    class Options:
        hidden: int = 8

    def build(options, width, classes):
        from torch import nn
        return nn.Sequential(nn.Linear(width, options.hidden), nn.ReLU(), nn.Linear(options.hidden, classes))

    @hookimpl
    def superbench_downstreams():
        yield DownstreamSpec(name="deep", build=build, reads="pooled", options=Options)
"""
COMMAND = """
    import click
    from superbench.plugin import CommandSpec, hookimpl
    from superbench.session import pass_session

    @click.command()
    @pass_session
    def count(session):
        '''Count the tasks.'''
        click.echo(len(session.registry.tasks))

    @hookimpl
    def superbench_commands():
        yield count
        yield CommandSpec(command=click.Command("recount", callback=lambda: click.echo("again")), under="corpus")
"""
LISTENER = """
    from pathlib import Path
    from superbench.plugin import hookimpl

    @hookimpl
    def superbench_result(result, settings):
        print("this is no result")
        with (settings.runs.parent / "heard.txt").open("a") as heard:
            heard.write(f"{result.task} {result.seed} {result.scores[0].value} {Path(result.folder).is_dir()}\\n")
"""


class Encoder(torch.nn.Module):
    """Thirteen layers of 768 at 50 frames per second, as a base model has."""

    def __init__(self) -> None:
        super().__init__()
        self.front = torch.nn.Conv1d(1, 768, 400, stride=320)

    def forward(self, waves_Bn: torch.Tensor) -> list[torch.Tensor]:
        x = self.front(waves_Bn[:, None]).transpose(1, 2)
        layers = [x]
        for _ in range(12):
            x = torch.tanh(x) * 1.5
            layers.append(x)
        return layers


@pytest.fixture
def checkpoint(tmp_path):
    def save(name, seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            torch.jit.script(Encoder()).save(str(tmp_path / name))
        return tmp_path / name

    return save


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_the_upstream_of_the_design_runs_as_printed(plugin, superbench, tones, tmp_path, checkpoint):
    path = plugin(UPSTREAM)
    student = checkpoint("student.pt", 1)

    def run(weights, *more):
        run = ("run", "-p", path, "-u", f"mine:checkpoint={weights}", "-t", "ks", "--data", tones)
        ended = superbench("-q", *run, "--steps", 20, "--lr", "1e-2", "--json", *more)
        assert ended.code == 0, ended.err
        return ended.json[0]

    result = run(student)
    assert (result["upstream"], result["upstream_plugin"]["plugin"]) == (f"mine:checkpoint={student}", "mine")
    assert len(result["layer_weights"]["all"]) == 13
    assert result["features"] == {**result["features"], "form": "pooled", "computed": 24, "bytes": 24 * 13 * 768 * 4}
    copy = tmp_path / "a copy, elsewhere.pt"
    copy.write_bytes(student.read_bytes())
    assert run(f'"{copy}"', "--seeds", 1)["features"]["reused"] == 24
    other = run(checkpoint("student.pt", 2), "--seeds", 1)
    assert (other["features"]["computed"], other["upstream_key"] != result["upstream_key"]) == (24, True)
    assert superbench("-q", "show", "-p", path, "mine", "--json").json["options"][0]["default"] == "required"


def test_task_head_command_and_listener_of_one_file_each(plugin, superbench, tones, tmp_path):
    files = [
        plugin(text, name)
        for name, text in {"task.py": TASK, "head.py": HEAD, "more.py": COMMAND, "listener.py": LISTENER}.items()
    ]
    brought = [part for file in files for part in ("-p", file)]
    home = ("--home", tmp_path / "home")
    run = ("run", "-u", "fbank_no_cmvn", "-t", "pitch", "--data", tones, "--seeds", "0,1", "--json")
    ended = superbench(*brought, *home, *run)
    assert ended.code == 0, ended.err
    assert "this is no result" in ended.err
    first, second = ended.json
    assert (first["task"], first["head"], first["label"], first["seed"], second["seed"]) == (
        "pitch",
        "deep",
        "custom",
        0,
        1,
    )
    assert first["scores"][0]["value"] > 0.9
    expected = "".join(f"pitch {r['seed']} {r['scores'][0]['value']} True\n" for r in (first, second))
    assert (tmp_path / "home" / "heard.txt").read_text() == expected
    listed = superbench(*brought, "list", "--json").json
    assert {e["name"]: e["brought_by"] for e in listed["tasks"]}["pitch"] == f"task ({files[0]})"
    assert superbench(*brought, "count").out == "6\n"
    assert superbench(*brought, "corpus", "recount").out == "again\n"
    assert "pitch" in superbench(*home, "leaderboard", "show").out


def test_what_a_plugin_brought_is_gone_without_it(plugin, superbench):
    path = plugin(COMMAND, "more.py")
    assert superbench("-p", path, "corpus", "recount").code == 0
    assert superbench("corpus", "recount").code == 2
    assert superbench("count").code == 2
    again = superbench("-p", path, "corpus", "recount")
    assert (again.code, again.err) == (0, "")


def test_the_environment_brings_plugins_too(plugin, superbench, monkeypatch):
    monkeypatch.setenv("SUPERBENCH_PLUGINS", str(plugin(TASK, "task.py")))
    assert "pitch" in superbench("list", "tasks").out
    assert "pitch" not in superbench("list", "tasks", "-p", "no:task").out
