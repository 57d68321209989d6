"""The one pass over a plan's sounds: in the plan's own batches, whatever the store has of them already."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from superbench.contracts import Layers, Provenance, Utterance
from superbench.errors import ContractError, ResourceError
from superbench.features import passes
from superbench.features.extraction import LoadedUpstream
from superbench.features.passes import ensure, need
from superbench.features.reduction import Form
from superbench.features.store import FeatureStore
from superbench.progress import Bar

KEY = "ab" * 32
HOP = 100  # samples per frame
LENGTHS = [*range(1000, 1010), *range(2000, 2010), 9000]
BATCHES = [4, 4, 2, 2, 2, 2, 2, 2, 1]  # of LENGTHS, in 4200 samples


class Beside:
    """An upstream whose features say, in their last bits, which sounds were in the batch."""

    sample_rate, strides, widths = 16000, (HOP, HOP), (1, 1)
    exact_batches: bool
    batch_samples = 4200

    def __init__(self, *, exact=True, room=None):
        self.exact_batches, self.room = exact, room  # room: samples that its GPU has room for
        self.batches = []  # lengths of each call

    def num_frames(self, samples):
        return samples // HOP

    def __call__(self, waves):
        lengths = [len(w) for w in waves]
        self.batches.append(lengths)
        if self.room is not None and sum(lengths) > self.room:
            raise torch.cuda.OutOfMemoryError("2 GiB")
        last_bits = 1 + 2**-20 * (sum(lengths) % 61)
        frames = [last_bits * w[: len(w) // HOP * HOP].view(-1, HOP).mean(1, keepdim=True) for w in waves]
        return [Layers((f, f * f)) for f in frames]


class Steps(Bar):
    """Counts what it is told, and what was computed by then."""

    def __init__(self):
        self.advanced = []

    def advance(self, units=1, note=""):
        self.advanced.append(units)


WAVES = {n: torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in LENGTHS}


def utterance(samples):
    return Utterance(
        id=f"u{samples}",
        path=Path("u.wav"),
        start=0,
        stop=samples,
        native_rate=16000,
        samples=samples,
        rate=16000,
        content=hashlib.sha256(str(samples).encode()).hexdigest(),
        split="train",
        fold="",
        speaker="",
        labels={},
        reference="",
    )


def run(root, upstream, lengths=LENGTHS, *, form="frames", read=lambda u: WAVES[u.samples], bar=None, frames=None):
    loaded = LoadedUpstream(name="beside", upstream=upstream, provenance=Provenance(plugin="mine"), device="cpu")
    wanted = need(loaded, [utterance(n) for n in lengths], Form(name=form))
    store = FeatureStore(root, KEY, form)
    return ensure(loaded, store, wanted, read, bar=bar or Bar(), frames=frames)


def stored(root):
    return {p.name: p.read_bytes() for p in sorted(root.rglob("*.safetensors"))}


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(passes, "SHARD", 6)


def test_an_upstream_that_claims_exact_batches_gets_them_by_length(tmp_path):
    upstream = Beside()
    counted = run(tmp_path, upstream)
    assert [len(batch) for batch in upstream.batches] == BATCHES
    assert [n for batch in upstream.batches for n in batch] == LENGTHS
    assert (counted.segments, counted.computed, counted.reused, counted.warnings) == (21, 21, 0, ())


def test_without_the_claim_each_sound_goes_alone(tmp_path):
    upstream = Beside(exact=False)
    assert run(tmp_path, upstream).computed == 21
    assert upstream.batches == [[n] for n in LENGTHS]


def test_waves_are_read_when_their_batch_comes_and_the_bar_counts_sounds(tmp_path):
    upstream, bar, ahead = Beside(), Steps(), []

    def read(one):
        ahead.append(one.samples)
        assert len(ahead) - sum(len(batch) for batch in upstream.batches) <= 4
        return WAVES[one.samples]

    run(tmp_path, upstream, read=read, bar=bar)
    assert ahead == LENGTHS
    assert bar.advanced == [0, *[1] * 21]


class Killed(BaseException):
    """As a signal ends a run: nothing catches it."""


@pytest.mark.parametrize("form", ["frames", "pooled"])
@pytest.mark.parametrize("before", [(), LENGTHS[1::3]], ids=["empty store", "some there"])
def test_killed_anywhere_and_run_again_the_bytes_are_those_of_a_run_never_killed(tmp_path, form, before):
    def fresh(name):
        if before:
            run(tmp_path / name, Beside(), before, form=form)
        return tmp_path / name

    whole = fresh("whole")
    run(whole, Beside(), form=form)
    for last in range(len(LENGTHS) - len(before)):
        left = last

        def read(one):
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return WAVES[one.samples]

        home = fresh(f"killed{last}")
        with pytest.raises(Killed):
            run(home, Beside(), form=form, read=read)
        run(home, Beside(), form=form)
        assert stored(home) == stored(whole), f"killed at sound {last}"


def test_a_shard_that_is_lost_comes_back_as_it_was(tmp_path):
    """Also from the middle: what was missing says nothing about who sat beside whom."""
    run(tmp_path, Beside())
    whole = stored(tmp_path)
    assert len(whole) == 4  # 4, 4 + 2, 2 + 2 + 2, 2 + 2 + 1
    for shard in tmp_path.rglob("*.safetensors"):
        shard.unlink()
        upstream = Beside()
        counted = run(tmp_path, upstream)
        assert counted.computed == sum(len(batch) for batch in upstream.batches) <= 6
        assert stored(tmp_path) == whole


def test_two_lost_shards_are_not_made_into_other_batches(tmp_path):
    run(tmp_path, Beside())
    whole = stored(tmp_path)
    for samples in (1000, 2000):  # whose neighbours in length stay
        shard = next(
            p for p in tmp_path.rglob("*.safetensors") if utterance(samples).content.encode() in p.read_bytes()
        )
        shard.unlink()
    run(tmp_path, Beside())
    assert stored(tmp_path) == whole


def test_what_is_stored_is_left_out_of_its_batch_and_never_computed_again(tmp_path):
    run(tmp_path, Beside(), [1001, 2000])
    upstream = Beside()
    counted = run(tmp_path, upstream)
    assert (counted.computed, counted.reused) == (19, 2)
    assert upstream.batches[:2] == [[1000, 1002, 1003], [1004, 1005, 1006, 1007]]
    assert [2001] in upstream.batches
    again = Beside()
    counted = run(tmp_path, again)
    assert (counted.computed, counted.reused, again.batches) == (0, 21, [])


def test_time_means_are_taken_from_frames_that_are_there_and_the_rest_is_computed_in_its_batches(tmp_path):
    run(tmp_path, Beside(), [1001, 2000])
    upstream, bar = Beside(), Steps()
    counted = run(tmp_path, upstream, form="pooled", bar=bar, frames=FeatureStore(tmp_path, KEY, "frames"))
    assert (counted.computed, counted.reused, sum(bar.advanced)) == (19, 2, 21)
    assert upstream.batches[0] == [1000, 1002, 1003]
    means, frames = FeatureStore(tmp_path, KEY, "pooled"), FeatureStore(tmp_path, KEY, "frames")
    content = utterance(1001).content
    assert torch.equal(means.read(content)[0], frames.read(content)[0].double().mean(1).float())


def test_a_shard_closes_at_so_many_bytes_and_neither_limit_moves_a_feature(tmp_path, monkeypatch):
    run(tmp_path / "small", Beside())
    monkeypatch.setattr(passes, "SHARD", 64)
    run(tmp_path / "large", Beside())
    assert len(stored(tmp_path / "large")) == 1
    monkeypatch.setattr(passes, "SHARD_BYTES", 4 * 2 * 100)  # a hundred frames of two layers of one number
    run(tmp_path / "bytes", Beside())
    assert len(stored(tmp_path / "bytes")) == 5  # 40 + 40 frames, 20 + 40 + 40, 40 + 40, 40, 90
    small, large, few = (FeatureStore(tmp_path / name, KEY, "frames") for name in ("small", "large", "bytes"))
    for n in LENGTHS:
        content = utterance(n).content
        assert torch.equal(small.read(content)[0], large.read(content)[0])
        assert torch.equal(small.read(content)[0], few.read(content)[0])


def test_a_batch_that_is_too_large_for_the_gpu_is_computed_one_by_one_and_said(tmp_path):
    upstream = Beside(room=4010)  # 1000 + ... + 1003 samples fit, the next four do not
    counted = run(tmp_path, upstream, LENGTHS[:8])
    assert upstream.batches == [LENGTHS[:4], LENGTHS[4:8], *[[n] for n in LENGTHS[4:8]]]
    assert counted.computed == 8
    assert counted.warnings == (
        "1 of 2 batches did not fit into the GPU's memory: their sounds were computed one at a time",
    )
    alone = Beside(exact=False)
    run(tmp_path / "alone", alone, LENGTHS[:8])
    split, one_by_one = (FeatureStore(place, KEY, "frames") for place in (tmp_path, tmp_path / "alone"))
    for n in LENGTHS[4:8]:
        assert torch.equal(split.read(utterance(n).content)[0], one_by_one.read(utterance(n).content)[0])


def test_one_sound_that_is_too_large_for_the_gpu_ends_the_run_and_is_named(tmp_path):
    upstream = Beside(room=8000)
    with pytest.raises(ResourceError, match=r"beside.* on u9000 ran out of GPU memory"):
        run(tmp_path, upstream)
    assert upstream.batches[-1] == [9000]


def test_an_error_in_a_batch_names_the_sounds(tmp_path):
    class Silent(Beside):
        def __call__(self, waves):
            return []

    with pytest.raises(ContractError, match=r"on u1000, u1001, u1002, u1003: 4 waves in, 0 results out"):
        run(tmp_path, Silent())
