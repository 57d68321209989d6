"""Promise 3: the same command gives the same bytes, killed anywhere and run again, beside another, or elsewhere."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from superbench.cli.main import invoke
from superbench.features import passes

# Dropout is on, so that random numbers have a part in every step.
COMMAND = (
    "run -q -u beside -t asr --head blstm:projector=6,hidden=6 --seeds 3",
    "--steps 6 --eval-every 2 --lr 1e-2,1e-3",
)
# An upstream whose features say in their last bits which sounds were in the batch: another batch is another score.
BESIDE = """
from superbench.plugin import Layers, UpstreamSpec, hookimpl

def load(options, device):
    import torch

    class Beside:
        sample_rate, strides, widths = 16000, (160,), (4,)
        exact_batches, batch_samples = True, 20000

        def num_frames(self, samples):
            return samples // 160

        def __call__(self, waves):
            found = []
            for wave in waves:
                x = wave[: len(wave) // 160 * 160].view(-1, 160)
                x = torch.stack((x.abs().mean(1), x.std(1), x.diff().abs().mean(1), x.amax(1)), 1)
                found.append(Layers((10 * x * (1 + 2**-20 * (sum(len(w) for w in waves) % 61)),)))
            return found

    return Beside()

@hookimpl
def superbench_upstreams():
    yield UpstreamSpec(name="beside", load=load)
"""
WRITES = 13  # plan, what the store says of the upstream, three shards, index, the candidates at three evaluations,
# two predictions, head, result
PROGRAM = (sys.executable, "-c", "from superbench.cli.main import main; main()")
fork = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(passes, "SHARD", 8)  # three shards, of two batches of four


@pytest.fixture(scope="module")
def command(tones, tmp_path_factory):
    beside = tmp_path_factory.mktemp("beside") / "beside.py"
    beside.write_text(BESIDE)
    return [*" ".join(COMMAND).split(), "-p", str(beside), "--data", str(tones)]


@pytest.fixture(scope="module")
def undisturbed(command, tmp_path_factory):
    """The home of a run with the usual size of shards."""
    home = tmp_path_factory.mktemp("undisturbed")
    assert invoke(["--home", str(home), *command]) == 0
    return home


@pytest.fixture
def reference(undisturbed, outcome):
    """What the run that nothing disturbs leaves."""
    return outcome(undisturbed / "runs")


def in_a_child(arguments, prepare=lambda: None):
    """Start the command in a forked child, which spares it the imports."""

    def child():
        prepare()
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
        os._exit(invoke(arguments))

    process = fork.Process(target=child)
    process.start()
    return process


def test_another_process_hash_seed_time_zone_locale_and_folder(command, reference, tmp_path, outcome):
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    differences = {"PYTHONHASHSEED": "77", "TZ": "Pacific/Kiritimati", "LC_ALL": "C", "LANG": "C"}
    home = elsewhere / "home"
    done = subprocess.run(
        [*PROGRAM, "--home", home, *command],
        cwd=elsewhere,
        env={**os.environ, **differences},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert outcome(home / "runs") == reference


@pytest.mark.parametrize("segments", [5, 64])
def test_the_size_of_shards_does_not_matter(segments, command, reference, superbench, tmp_path, outcome, monkeypatch):
    monkeypatch.setattr(passes, "SHARD", segments)
    ended = superbench("--home", tmp_path, *command)
    assert ended.code == 0, ended.err
    assert outcome(tmp_path / "runs") == reference


def kill_at(step):
    """Make this process kill itself before its `step`-th renaming of a finished file."""
    left = step
    replace = Path.replace

    def dying(path, target):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(path, target)

    Path.replace = dying


@pytest.mark.parametrize("step", [1, 2, 4, 5, 6, 7, 8, 11, 12, 13])
def test_killed_at_a_write_and_run_again(step, command, reference, tmp_path, outcome):
    home = tmp_path / "home"
    killed = in_a_child(["--home", str(home), *command], lambda: kill_at(step))
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    again = in_a_child(["--home", str(home), *command])
    again.join()
    assert again.exitcode == 0
    assert outcome(home / "runs") == reference
    assert len(list(home.rglob("*.safetensors"))) == 3 + 1  # three shards and the head: none twice


def test_killed_in_every_run_it_still_ends(command, reference, tmp_path, outcome):
    """Each run gets some writes further: shards, then candidates, then results."""
    home = tmp_path / "home"
    codes = []
    while not codes or codes[-1] != 0:
        child = in_a_child(["--home", str(home), *command], lambda: kill_at(6))
        child.join()
        codes.append(child.exitcode)
        assert len(codes) < 9
    assert codes == [-signal.SIGKILL] * 2 + [0]
    assert outcome(home / "runs") == reference


def test_the_kills_above_are_all_there_are(command, tmp_path):
    survivor = in_a_child(["--home", str(tmp_path / "home"), *command], lambda: kill_at(WRITES + 1))
    survivor.join()
    assert survivor.exitcode == 0


# A linear head that takes its time in training, where it is told to.
SLOW = """
    import os, time
    from superbench.plugin import DownstreamSpec, hookimpl

    def build(options, width, classes):
        import torch

        class Slow(torch.nn.Linear):
            def forward(self, x, lengths=None):
                time.sleep(float(os.environ.get("SECONDS_PER_STEP", "0")))
                return super().forward(x)

        return Slow(width, classes)

    @hookimpl
    def superbench_downstreams():
        yield DownstreamSpec(name="slow", build=build, reads="pooled")
"""


@pytest.mark.parametrize(
    ("number", "steps"),
    [(signal.SIGTERM, 20), (signal.SIGINT, 300)],
    ids=["SIGTERM while it extracts", "SIGINT while it trains"],
)
def test_an_interrupted_run_says_so_and_goes_on(
    number, steps, counting, calls, plugin, tones, superbench, tmp_path, outcome
):
    home = tmp_path / "home"
    run = ["run", "-p", str(counting), "-u", "counting", "-t", "ks", "--data", str(tones), "--lr", "1e-3"]
    run += ["-p", str(plugin(SLOW, "slow.py")), "--head", "slow", "--steps", str(steps), "--eval-every", "20"]
    extracting = number == signal.SIGTERM
    # a shell that puts the tests into the background has them, and their children, ignore SIGINT
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*PROGRAM, "--home", home, *run],
        env={**os.environ, "SECONDS_PER_WAVE" if extracting else "SECONDS_PER_STEP": "0.3" if extracting else "0.05"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 60
    while not (calls() if extracting else list(home.rglob("*.checkpoint"))):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, ""), err
    assert "interrupted" in err
    assert "run the same command again" in err
    assert "Traceback" not in err
    assert not list(home.rglob("result.json"))
    for place in (home, tmp_path / "quiet"):
        assert superbench("-q", "--home", place, *run).code == 0
    assert outcome(home / "runs") == outcome(tmp_path / "quiet" / "runs")


def test_two_at_once_in_one_home_both_end_well(command, reference, tmp_path, outcome, superbench):
    home = tmp_path / "home"
    children = [in_a_child(["--home", str(home), *command]) for _ in range(2)]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert outcome(home / "runs") == reference
    assert not list(home.rglob("*.corrupt-*"))
    assert superbench("--home", home, "leaderboard", "verify").code == 0
    assert superbench("--home", home, "leaderboard", "export", "--csv", tmp_path / "board.csv").code == 0
    assert len((tmp_path / "board.csv").read_text().splitlines()) == 2  # the header, and one row


def test_resumed_or_not_the_result_says_the_same(command, tmp_path, superbench):
    """But for when, where and how long."""

    def facts(home):
        ended = superbench("--home", home, *command, "--json")
        assert ended.code == 0, ended.err
        (result,) = ended.json
        for changing in ("timings", "finished", "folder", "environment", "features"):
            del result[changing]
        return result

    resumed = tmp_path / "resumed"
    child = in_a_child(["--home", str(resumed), *command], lambda: kill_at(7))
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert facts(resumed) == facts(tmp_path / "whole")
