"""Two processes on one store and one home, in whatever order their writes come: both end well, with the same bytes."""

from __future__ import annotations

import os
import signal

import pytest
from driver import Order, gate
from homes import CHECKPOINT, assert_same, flip

from superbench.progress import Bar
from superbench.training import checkpoints

MEANS = "-t ks --lr 1e-2,1e-3 --steps 6 --eval-every 2"
FRAMES = "-t asr --head blstm:projector=4,hidden=4 --lr 1e-2,1e-3 --steps 6 --eval-every 2"
OTHERS = {
    "the same": MEANS,
    "another seed": f"{MEANS} --seeds 1",
    "more learning rates": MEANS.replace("1e-3", "1e-3,1e-4"),
    "a task that reads frames": FRAMES,
}
WRITES = (
    "plan.json",
    "*.safetensors",
    f"*{CHECKPOINT}",
    "predictions.jsonl",
    "predictions.dev.jsonl",
    "head.safetensors",
    "result.json",
)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def whole(superbench, home, undisturbed):
    """Everything that some runs leave is there, and nothing else, and each result is once on the leaderboard."""

    def check(*given):
        references = [undisturbed(g).contents for g in dict.fromkeys(given)]
        assert_same(home, {name: content for reference in references for name, content in reference.items()})
        verified = superbench("--home", home, "leaderboard", "verify", "--json")
        assert (verified.code, verified.json["records"]) == (0, len(references))

    return check


@pytest.fixture
def fine(driver):
    """Wait for the ends of some processes: they succeed and have nothing to warn of."""

    def wait(*started):
        ended = [driver.wait(s) for s in started]
        assert [(e.code, e.err) for e in ended] == [(0, "")] * len(ended)

    return wait


@pytest.mark.parametrize("other", OTHERS)
def test_started_together(other, driver, struck, home, fine, whole):
    commands = [struck(home, MEANS), struck(home, OTHERS[other])]
    fine(*[driver.start(Order(arguments=c)) for c in commands])
    whole(MEANS, OTHERS[other])


def test_five_of_the_same_started_together(driver, struck, home, fine, whole):
    fine(*[driver.start(Order(arguments=struck(home, FRAMES))) for _ in range(5)])
    whole(FRAMES)


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("given", [MEANS, FRAMES], ids=["time means", "frames"])
def test_one_stands_still_at_a_write_while_the_other_runs_to_its_end(
    name, given, driver, struck, home, tmp_path, fine, whole
):
    with gate(tmp_path / "gate") as held:
        slow = driver.start(Order(arguments=struck(home, given), fault=f"pause:{name}:1", gate=held))
        held.wait()
        fine(driver.start(Order(arguments=struck(home, given))))
        whole(given)
        held.open()
    fine(slow)
    whole(given)


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("given", [MEANS, FRAMES], ids=["time means", "frames"])
def test_one_is_killed_while_both_write_the_same_file(name, given, driver, struck, home, tmp_path, fine, whole):
    fault, command = f"pause:{name}:1", struck(home, given)
    with gate(tmp_path / "first") as first, gate(tmp_path / "second") as second:
        victim = driver.start(Order(arguments=command, fault=fault, gate=first))
        first.wait()
        survivor = driver.start(Order(arguments=command, fault=fault, gate=second))
        second.wait()
        os.kill(victim.number, signal.SIGKILL)
        assert driver.wait(victim).code == -signal.SIGKILL
        second.open()
        fine(survivor)
    whole(given)
    fine(driver.start(Order(arguments=command)))
    whole(given)


DAMAGED = {"checkpoint": ("candidates", CHECKPOINT), "shard": ("store", ".safetensors")}


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("given", [MEANS, FRAMES], ids=["time means", "frames"])
def test_both_find_the_same_damage(kind, given, driver, struck, home, tmp_path, undisturbed):
    """One puts the damaged file aside between the other's finding it and putting it aside."""
    folder, suffix = DAMAGED[kind]
    (began,) = driver.run(Order(arguments=struck(home, given), fault="before:head.safetensors:1"))
    assert began.code == -signal.SIGKILL
    damaged = sorted(p for p in home.rglob(f"*{suffix}") if folder in p.parts)[0]
    flip(damaged, 0.7)
    if kind == "shard":  # else nothing of it is read again
        for path in home.rglob(f"*{CHECKPOINT}"):
            path.unlink()
    with gate(tmp_path / "first") as first, gate(tmp_path / "second") as second:
        slow = driver.start(Order(arguments=struck(home, given), fault="pause:*.corrupt-*:1", gate=first))
        first.wait()
        quick = driver.start(Order(arguments=struck(home, given), fault=f"pause:*{suffix}:1", gate=second))
        second.wait()
        assert not damaged.exists()
        first.open()
        assert driver.wait(slow).code == 0
        second.open()
        ended = driver.wait(quick)
    assert ended.code == 0
    assert "put aside" in ended.err
    assert_same(home, undisturbed(given).contents, mended=True)


def test_a_checkpoint_that_another_process_replaces_between_listing_and_loading(tmp_path):
    members = ["all-seed0-lr0.01"]
    path = checkpoints.path_of(tmp_path, members)
    checkpoints.save(path, members, {"step": 2}, done=False)
    (listed,) = checkpoints.listed(tmp_path, Bar())
    checkpoints.save(path, members, {"step": 4}, done=False)
    assert checkpoints.load(listed, "cpu", Bar()) == {"step": 4}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
