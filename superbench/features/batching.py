"""Which sounds go through the upstream together: neighbours in length, so that little of a batch is padding.

Batches, and the shards they are stored in, follow from the whole list of a plan, never from what happens to be missing.
Who sits beside whom moves float32 features by some 1e-6, and a run that was killed ends with the bytes of one that was
not. What an earlier command stored is left out of its batch (no sound is heard twice), so that a sound which then goes
alone, or with others, may differ in these last bits from what it is in an empty store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from superbench.contracts import Utterance
from superbench.errors import ContractError
from superbench.features.extraction import LoadedUpstream, plugin_guard

# Seconds of sound in one batch. On a CPU with 1 MiB of cache a core, one thread of a base encoder takes in 4.6 s a
# second where words of one second come alone, 6.3 s in batches of 8 to 12 s, 6.1 s in batches of 24 s; utterances of
# 4 s gain nothing beyond 8 s. A GPU, not measured yet, wants as much at a time as there is: 320 s are 16 000 frames of
# 20 ms, and 0.6 GB of a base encoder's layers.
SECONDS = {"cpu": 16.0, "cuda": 320.0}
# The longest of a batch is at most so many times as long as the shortest: a fifth of the batch is padding at most.
SPREAD = 1.25

Batch = tuple[Utterance, ...]


def batch_samples(loaded: LoadedUpstream) -> int | None:
    """Samples that one call of the upstream takes at most; None where it gets one segment at a time."""
    upstream = loaded.upstream
    with plugin_guard(loaded.who):
        exact, stated = bool(getattr(upstream, "exact_batches", False)), getattr(upstream, "batch_samples", None)
    if stated is not None and (isinstance(stated, bool) or not isinstance(stated, int) or stated < 1):
        raise ContractError(
            f"{loaded.who} states batch_samples = {stated!r}", "a whole number of samples, or leave it out"
        )
    if not exact:
        return None
    if stated is not None:
        return stated
    return round(SECONDS.get(torch.device(loaded.device).type, SECONDS["cpu"]) * upstream.sample_rate)


def batching_rule(loaded: LoadedUpstream) -> str:
    """How segments are put together, in words: a part of the key that features are kept under."""
    samples = batch_samples(loaded)
    if samples is None:
        return "one segment at a time"
    return f"batches by length: {samples} samples with padding, the longest at most {SPREAD} times the shortest"


def form_batches(segments: Sequence[Utterance], samples: int | None) -> list[Batch]:
    """Cut the list, sorted by length and content, into batches of at most `samples` samples, padding counted.

    A segment that is longer by itself goes alone, and so does every one where `samples` is None.
    """
    batches: list[Batch] = []
    batch: list[Utterance] = []
    for segment in sorted(segments, key=lambda u: (u.samples, u.content)):
        fits = samples is not None and (len(batch) + 1) * segment.samples <= samples
        if batch and not (fits and segment.samples <= SPREAD * batch[0].samples):
            batches.append(tuple(batch))
            batch = []
        batch.append(segment)
    return [*batches, tuple(batch)] if batch else batches


def form_shards(
    batches: Sequence[Batch], sizes: Mapping[str, int], *, segments: int, bytes_in_all: int
) -> list[tuple[Batch, ...]]:
    """Cut a list of batches into shards of at most so many segments and bytes; a batch that is more is a shard itself.

    `sizes`: bytes of each segment's features, by content.
    """
    shards: list[tuple[Batch, ...]] = []
    shard: list[Batch] = []
    held = held_bytes = 0
    for batch in batches:
        size = sum(sizes[u.content] for u in batch)
        if shard and (held + len(batch) > segments or held_bytes + size > bytes_in_all):
            shards.append(tuple(shard))
            shard, held, held_bytes = [], 0, 0
        shard.append(batch)
        held, held_bytes = held + len(batch), held_bytes + size
    return [*shards, tuple(shard)] if shard else shards
