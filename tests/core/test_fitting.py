"""Fits of several candidates: as each would be alone, the same to the byte after a stop, and never trained twice."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from small_fits import Fit, KilledError, facts
from small_heads import CLASSES, KINDS, LAYERS, WIDTH

from superbench.features.weighted_sum import Probe
from superbench.progress import Bar
from superbench.training import checkpoints
from superbench_downstreams.linear import LinearHead

POOLED = KINDS["pooled"]


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def members(folder):
    return sorted(sorted(c.members) for c in checkpoints.listed(folder, Bar()))


def test_each_candidate_is_fitted_as_alone(kind, tmp_path):
    lrs = (0.3, 0.05, 0.005)
    common = {"kind": kind, "protocol": {"steps": 24, "eval_every": 1 if kind.pooled else 4}}
    together = Fit(folder=tmp_path / "together", lrs=lrs, **common)
    found, bar = together.run()
    assert bar.units == len(found) * 24
    names = [(f"seed{lane}", lr) for lane in range(kind.lanes) for lr in lrs]
    assert list(found) == names
    for number, lr in enumerate(lrs):
        alone = Fit(folder=tmp_path / str(lr), lrs=(lr,), **common)
        single, _ = alone.run()
        for lane in range(kind.lanes):
            (ours, model), (theirs, other) = found[f"seed{lane}", lr], single[f"seed{lane}", lr]
            assert together.said[lane * 3 + number :: len(names)] == alone.said[lane :: kind.lanes]
            assert (ours.curve, ours.best_step, ours.dev) == (theirs.curve, theirs.best_step, theirs.dev)
            assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-9)
            for name, value in model.state_dict().items():
                torch.testing.assert_close(value, other.state_dict()[name], rtol=0, atol=1e-9)
    assert len({fitted.best_step for fitted, _ in found.values()}) > 1  # there is something to tell apart


@pytest.mark.parametrize("name", ["pooled, 3 lanes", "frames", "blstm"])
def test_killed_at_any_evaluation_and_resumed_gives_the_same_bytes(name, tmp_path):
    kind = KINDS[name]
    whole = Fit(kind=kind, folder=tmp_path / "whole")
    expected = facts(whole.run()[0])
    candidates, evaluations = len(expected), len(whole.said)
    assert evaluations == candidates * 3  # after steps 3, 6 and 7
    for killed in range(evaluations):
        stopped = Fit(kind=kind, folder=tmp_path / str(killed))
        with pytest.raises(KilledError):
            stopped.run(kill_after=killed)
        torch.manual_seed(killed)  # the next process has another random state
        before = torch.get_rng_state()
        found, bar = stopped.run()
        assert torch.equal(torch.get_rng_state(), before)
        assert stopped.bytes() == whole.bytes()
        assert facts(found) == expected
        assert len(stopped.said) == evaluations - killed // candidates * candidates  # none is done twice
        assert bar.units == candidates * stopped.steps
        again, bar = stopped.run(kill_after=0)  # finished: nothing is evaluated any more
        assert facts(again) == expected
        assert bar.units == candidates * stopped.steps


def test_killed_after_every_evaluation_in_turn_gives_the_same_bytes(kind, tmp_path):
    whole = Fit(kind=kind, folder=tmp_path / "whole")
    candidates = len(whole.run()[0])
    stopped = Fit(kind=kind, folder=tmp_path / "stopped")
    for killed in (0, candidates, candidates):
        with pytest.raises(KilledError):
            stopped.run(kill_after=killed)
    stopped.run()
    assert len(stopped.said) == candidates
    assert stopped.bytes() == whole.bytes()


def test_a_wider_grid_and_more_seeds_train_only_what_is_new(tmp_path):
    first = Fit(kind=POOLED, folder=tmp_path, lrs=(0.1,))
    old, _ = first.run()
    ((name, content),) = first.bytes().items()
    wider = Fit(kind=POOLED, folder=tmp_path, lrs=(0.1, 0.02, 0.5))
    found, _ = wider.run()
    assert len(wider.said) == 2 * 3
    assert wider.bytes()[name] == content
    assert facts(found)["seed0", 0.1] == facts(old)["seed0", 0.1]
    assert members(tmp_path) == [["seed0-lr0.02", "seed0-lr0.5"], ["seed0-lr0.1"]]
    more = Fit(kind=POOLED, folder=tmp_path, lrs=(0.1, 1.0), lanes=3)
    grown, bar = more.run()
    assert len(more.said) == 5 * 3  # one more of the first seed, two of each new one
    assert list(grown) == [(f"seed{seed}", lr) for seed in range(3) for lr in (0.1, 1.0)]
    assert facts(grown)["seed0", 0.1] == facts(old)["seed0", 0.1]
    assert bar.units == 6 * more.steps
    assert members(tmp_path)[2:] == [
        ["seed0-lr1.0"],
        ["seed1-lr0.1", "seed1-lr1.0", "seed2-lr0.1", "seed2-lr1.0"],
    ]
    alone, _ = Fit(kind=POOLED, folder=tmp_path / "alone", lrs=(1.0,)).run()
    assert alone["seed0", 1.0][0].curve == grown["seed0", 1.0][0].curve


def test_of_two_groups_with_a_member_in_common_the_first_by_name_counts(tmp_path):
    one, two = (Fit(kind=POOLED, folder=tmp_path / str(lrs), lrs=lrs) for lrs in ((0.1, 0.02), (0.02, 0.5)))
    found = {fit.folder: facts(fit.run()[0]) for fit in (one, two)}
    both = {**one.bytes(), **two.bytes()}
    for name, content in two.bytes().items():
        (one.folder / name).write_bytes(content)
    wanted = Fit(kind=POOLED, folder=one.folder, lrs=(0.1, 0.02, 0.5))
    came, _ = wanted.run(kill_after=0)
    owner = one if min(both) in one.bytes() and min(both) not in two.bytes() else two
    assert facts(came)["seed0", 0.02] == found[owner.folder]["seed0", 0.02]
    assert facts(came)["seed0", 0.1] == found[one.folder]["seed0", 0.1]
    assert facts(came)["seed0", 0.5] == found[two.folder]["seed0", 0.5]
    assert wanted.bytes() == both


@pytest.mark.parametrize("when", [1, 3, 5])
def test_another_process_that_fits_the_same_meanwhile_does_no_harm(when, tmp_path):
    alone = Fit(kind=POOLED, folder=tmp_path / "alone")
    expected = facts(alone.run()[0])
    ours, theirs = (Fit(kind=POOLED, folder=tmp_path / "shared") for _ in range(2))

    def meanwhile(evaluations):
        if evaluations == when:
            assert facts(theirs.run()[0]) == expected

    found, bar = ours.run(meanwhile=meanwhile)
    assert facts(found) == expected
    assert ours.bytes() == alone.bytes()
    assert bar.warnings == []


def test_another_process_may_finish_between_the_listing_and_the_reading(tmp_path, monkeypatch):
    alone = Fit(kind=POOLED, folder=tmp_path / "alone")
    expected = facts(alone.run()[0])
    ours, theirs = (Fit(kind=POOLED, folder=tmp_path / "shared") for _ in range(2))
    with pytest.raises(KilledError):
        ours.run(kill_after=3)
    read = checkpoints.load

    def read_later(*arguments):
        monkeypatch.setattr(checkpoints, "load", read)
        theirs.run()
        return read(*arguments)

    monkeypatch.setattr(checkpoints, "load", read_later)
    found, bar = ours.run()
    assert (facts(found), ours.said, bar.warnings) == (expected, [], [])
    assert ours.bytes() == alone.bytes()


DAMAGES = {
    "first line": lambda whole: b"x" + whole[1:],
    "no object": lambda whole: b"[]" + whole[whole.index(b"\n") :],
    "no text": lambda whole: b"\xff" + whole,
    "another member": lambda whole: whole.replace(b"lr0.02", b"lr0.03", 1),
    "another checksum": lambda whole: whole.replace(b'"sha256":"', b'"sha256":"0', 1),
    "payload": lambda whole: whole[:-300] + bytes([whole[-300] ^ 1]) + whole[-299:],
    "cut off": lambda whole: whole[:-1],
    "cut off in the first line": lambda whole: whole[:20],
    "empty": lambda whole: b"",
}


@pytest.mark.parametrize("kill_after", [2, None], ids=["unfinished", "done"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_put_aside_and_trained_again(damage, kill_after, tmp_path):
    whole = Fit(kind=POOLED, folder=tmp_path / "whole")
    expected = facts(whole.run()[0])
    fit = Fit(kind=POOLED, folder=tmp_path / "damaged")
    if kill_after is None:
        fit.run()
    else:
        with pytest.raises(KilledError):
            fit.run(kill_after=kill_after)
    ((name, content),) = fit.bytes().items()
    damaged = damage(content)
    assert damaged != content
    (fit.folder / name).write_bytes(damaged)
    found, bar = fit.run()
    assert len(fit.said) == len(whole.said)
    assert facts(found) == expected
    assert fit.bytes() == whole.bytes()
    (aside,) = fit.folder.glob("*.corrupt-*")
    assert aside.read_bytes() == damaged
    (warning,) = bar.warnings
    assert warning.startswith(f"{name} was damaged (")
    assert warning.endswith(f"and put aside as {aside.name}; its candidates are trained again")


def test_no_flipped_bit_of_the_first_line_is_believed(tmp_path):
    written = ["seed0-lr0.1", "seed0-lr0.02"]
    path = checkpoints.path_of(tmp_path, written)
    checkpoints.save(path, written, {"step": 1}, done=True)
    whole = path.read_bytes()
    for at in range(8 * (whole.index(b"\n") + 1)):
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        for found in checkpoints.listed(tmp_path, Bar()):
            assert checkpoints.load(found, "cpu", Bar()) is None, damaged[: damaged.index(b"\n")]
        (aside,) = tmp_path.glob("*.corrupt-*")
        aside.unlink()
        assert not path.exists()


def test_an_unfinished_checkpoint_holds_weights_moments_and_best_weights_once(tmp_path):
    built = []

    def build():
        built.append(Probe(LAYERS, LinearHead(WIDTH, CLASSES, projector=2000)))
        return built[-1]

    fit = Fit(kind=POOLED, folder=tmp_path, lrs=(0.1, 0.01, 0.001), lanes=2, build=build)
    with pytest.raises(KilledError):
        fit.run(kill_after=6)
    one = 8 * sum(p.numel() for p in built[0].parameters())
    ((_, content),) = fit.bytes().items()
    assert 6 * 4 * one < len(content) < 6 * 4.2 * one


def test_a_candidate_that_diverges_is_counted_and_the_others_are_as_without_it(kind, tmp_path):
    without, _ = Fit(kind=kind, folder=tmp_path / "without").run()
    found, _ = Fit(kind=kind, folder=tmp_path / "with", lrs=(0.1, 1e300, 0.02)).run()
    for lane in range(kind.lanes):
        diverged, _ = found[f"seed{lane}", 1e300]
        assert (diverged.nan_steps, diverged.train_loss) == (6, None)  # the first step was still finite
        assert len(diverged.curve) == 3
        for lr in (0.1, 0.02):
            (ours, model), (theirs, other) = found[f"seed{lane}", lr], without[f"seed{lane}", lr]
            assert ours == replace(theirs, train_loss=ours.train_loss)
            assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-9)
            assert math.isfinite(ours.train_loss)
            for name, value in model.state_dict().items():
                torch.testing.assert_close(value, other.state_dict()[name], rtol=0, atol=1e-9)
