"""Which sounds go together: neighbours in length, the same for the same list, whatever its order."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superbench.contracts import Provenance, Utterance
from superbench.errors import ContractError
from superbench.features.batching import batch_samples, batching_rule, form_batches, form_shards
from superbench.features.extraction import LoadedUpstream


def segments(lengths):
    return [
        Utterance(
            id=f"u{i}",
            path=Path(f"{i}.wav"),
            start=0,
            stop=n,
            native_rate=16000,
            samples=n,
            rate=16000,
            content=f"{i:04x}",
            split="train",
            fold="",
            speaker="",
            labels={},
            reference="",
        )
        for i, n in enumerate(lengths)
    ]


def lengths_of(batches):
    return [[u.samples for u in batch] for batch in batches]


def loaded(device="cpu", **stated):
    upstream = SimpleNamespace(sample_rate=16000, **stated)
    return LoadedUpstream(name="mine", upstream=upstream, provenance=Provenance(plugin="mine"), device=device)


def test_neighbours_go_together_while_padding_is_small_and_the_budget_holds():
    found = form_batches(segments([100, 126, 125, 101, 90, 1000, 500, 499, 400]), 500)
    assert lengths_of(found) == [[90, 100, 101], [125, 126], [400], [499], [500], [1000]]


def test_the_budget_and_the_spread_are_met_exactly():
    assert lengths_of(form_batches(segments([4, 5]), 10)) == [[4, 5]]
    assert lengths_of(form_batches(segments([4, 5]), 9)) == [[4], [5]]
    assert lengths_of(form_batches(segments([4, 6]), 12)) == [[4], [6]]  # 6 > 1.25 x 4


def test_equal_lengths_are_in_the_order_of_their_content():
    assert [u.content for u in form_batches(segments([7, 7, 7])[::-1], 21)[0]] == ["0000", "0001", "0002"]


def test_without_a_budget_each_goes_alone():
    assert lengths_of(form_batches(segments([3, 2, 2]), None)) == [[2], [2], [3]]
    assert form_batches([], None) == form_batches([], 100) == []


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), max_size=60), st.integers(1, 1500), st.randoms(use_true_random=False))
def test_every_batch_keeps_the_rules_and_is_as_large_as_they_allow(lengths, samples, chance):
    listed = segments(lengths)
    found = form_batches(listed, samples)
    flat = [u for batch in found for u in batch]
    assert flat == sorted(listed, key=lambda u: (u.samples, u.content))  # each once

    def fits(batch):
        longest, shortest = max(u.samples for u in batch), min(u.samples for u in batch)
        return len(batch) * longest <= samples and 4 * longest <= 5 * shortest

    assert all(len(batch) == 1 or fits(batch) for batch in found)
    assert not any(fits([*batch, after[0]]) for batch, after in itertools.pairwise(found))
    shuffled = list(listed)
    chance.shuffle(shuffled)
    assert form_batches(shuffled, samples) == found


@settings(deadline=None)
@given(st.lists(st.integers(1, 100), max_size=60), st.integers(1, 9), st.integers(1, 500))
def test_a_shard_is_a_run_of_whole_batches(lengths, most, most_bytes):
    batches = form_batches(segments(lengths), 300)
    sizes = {u.content: 3 * u.samples for batch in batches for u in batch}
    shards = form_shards(batches, sizes, segments=most, bytes_in_all=most_bytes)
    assert [batch for shard in shards for batch in shard] == batches

    def fits(shard):
        members = [u for batch in shard for u in batch]
        return len(members) <= most and sum(sizes[u.content] for u in members) <= most_bytes

    assert all(len(shard) == 1 or fits(shard) for shard in shards)
    assert not any(fits([*shard, after[0]]) for shard, after in itertools.pairwise(shards))


def test_batches_of_one_fill_a_shard_to_the_last_place():
    batches = form_batches(segments([1] * 130), None)
    shards = form_shards(batches, {u.content: 1 for (u,) in batches}, segments=64, bytes_in_all=10**9)
    assert [len(shard) for shard in shards] == [64, 64, 2]


@pytest.mark.parametrize(
    ("device", "stated", "samples"),
    [
        ("cpu", {}, None),
        ("cpu", {"exact_batches": False, "batch_samples": 5}, None),
        ("cpu", {"exact_batches": True}, 16 * 16000),
        ("cuda:1", {"exact_batches": True}, 320 * 16000),
        ("cuda", {"exact_batches": True, "batch_samples": 5}, 5),
    ],
)
def test_what_an_upstream_and_its_device_take_at_a_time(device, stated, samples):
    assert batch_samples(loaded(device, **stated)) == samples


@pytest.mark.parametrize("stated", [0, -1, 1.5, "16", True])
def test_a_budget_is_a_number_of_samples(stated):
    with pytest.raises(ContractError, match=r"mine.* states batch_samples"):
        batch_samples(loaded(exact_batches=True, batch_samples=stated))


def test_the_rule_is_said_in_words_for_the_key():
    assert batching_rule(loaded()) == "one segment at a time"
    said = "batches by length: 256000 samples with padding, the longest at most 1.25 times the shortest"
    assert batching_rule(loaded(exact_batches=True)) == said
