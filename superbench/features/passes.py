"""The one pass: every distinct sound that a run needs goes through the upstream once, or comes from the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from superbench.contracts import FeatureCount, Layers, Utterance
from superbench.errors import ContractError, DamagedError, DataError, ResourceError, UsageError
from superbench.features.batching import Batch, batch_samples, form_batches, form_shards
from superbench.features.extraction import LoadedUpstream, extract
from superbench.features.memory_store import MemoryStore
from superbench.features.reduction import Form, reduce, unstacked
from superbench.features.store import SHARD, FeatureStore
from superbench.progress import Bar

SHARD_BYTES = 256 * 2**20  # of features in one shard at most: so much is held in memory, and lost when a run is killed


@dataclass(frozen=True, kw_only=True)
class Need:
    """What one form of features costs, before anything runs."""

    form: Form
    segments: tuple[Utterance, ...]  # one utterance per distinct sound, sorted by content
    sizes: tuple[int, ...]  # bytes of each segment
    bytes: int
    frames: int
    longest: int  # frames of the longest segment


def segments_of(utterances: Sequence[Utterance]) -> tuple[Utterance, ...]:
    """One utterance per distinct sound, sorted by content: what is extracted does not depend on names or order."""
    first: dict[str, Utterance] = {}
    for utterance in utterances:
        first.setdefault(utterance.content, utterance)
    return tuple(first[c] for c in sorted(first))


def need(loaded: LoadedUpstream, utterances: Sequence[Utterance], form: Form) -> Need:
    """Count segments, frames and bytes; refuse sounds the upstream cannot take, naming all of them."""
    segments = segments_of(utterances)
    limit = getattr(loaded.upstream, "max_samples", None)
    long = [u for u in segments if limit is not None and u.samples > limit]
    if long and limit is not None:
        raise DataError(
            f"{loaded.who} takes at most {limit / segments[0].rate:g} s; longer: "
            + ", ".join(f"{u.id} ({u.seconds:.1f} s)" for u in long[:20])
            + (f" and {len(long) - 20} more" if len(long) > 20 else ""),
            "cut these recordings, or choose another upstream",
        )
    sizes: list[int] = []
    total_frames = longest = 0
    short = []
    for utterance in segments:
        frames = loaded.frames(utterance.samples)
        if min(frames) < 1:
            short.append(utterance)
        total_frames += max(frames)
        longest = max(longest, *frames)
        sizes.append(form.bytes(frames, loaded.upstream.widths))
    if short:
        raise DataError(
            f"{loaded.who} gives no frame for: "
            + ", ".join(f"{u.id} ({u.samples} samples)" for u in short[:20])
            + (f" and {len(short) - 20} more" if len(short) > 20 else ""),
            "leave these recordings out of the corpus, or choose another upstream",
        )
    return Need(
        form=form, segments=segments, sizes=tuple(sizes), bytes=sum(sizes), frames=total_frames, longest=longest
    )


def ensure(
    loaded: LoadedUpstream,
    store: FeatureStore | MemoryStore,
    wanted: Need,
    read: Callable[[Utterance], Tensor],
    *,
    bar: Bar,
    frames: FeatureStore | MemoryStore | None = None,
) -> FeatureCount:
    """Compute what the store lacks, batch by batch, a shard at a time. Finished shards survive any stop.

    Batches and shards are those of the whole list; what is stored already is left out of them, whatever lacks. Time
    means of sounds whose `frames` are stored already are taken from these: the upstream does not run again. Shards
    that another process is at are left for the end, and computed here only if they are not there by then.
    """
    begun = time.monotonic()
    sizes = {u.content: size for u, size in zip(wanted.segments, wanted.sizes, strict=True)}
    missing = set(store.missing(sizes))
    if missing:
        store.require(sum(sizes[content] for content in missing))
    work = _Work(loaded=loaded, store=store, form=wanted.form, read=read, frames=frames, bar=bar)
    bar.advance(len(sizes) - len(missing))
    batches = form_batches(wanted.segments, batch_samples(loaded))
    shards = form_shards(batches, sizes, segments=SHARD, bytes_in_all=SHARD_BYTES)
    waiting = [shard for shard in shards if any(u.content in missing for batch in shard for u in batch)]
    for patient in (True, False):
        left = []
        for shard in waiting:
            contents = sorted(missing.intersection(u.content for batch in shard for u in batch))
            if store.claim(contents) or not patient:
                try:
                    work.do(shard, contents)
                finally:
                    store.release(contents)
            else:
                left.append(shard)
        waiting = left
    if missing:
        store.save_index()
    batches_told = f"{work.split} of {work.ran} batches did not fit into the GPU's memory"
    too_large = f"{batches_told}: their sounds were computed one at a time"
    return FeatureCount(
        form=str(wanted.form),
        segments=len(sizes),
        computed=work.computed,
        reused=len(sizes) - work.computed,
        bytes=wanted.bytes,
        seconds=time.monotonic() - begun,
        warnings=(
            *store.warnings,
            *(frames.warnings if frames is not None else ()),
            *([too_large] if work.split else []),
        ),
    )


@dataclass(kw_only=True)
class _Work:
    """A pass over what is missing, and what was counted on it."""

    loaded: LoadedUpstream
    store: FeatureStore | MemoryStore
    form: Form
    read: Callable[[Utterance], Tensor]
    frames: FeatureStore | MemoryStore | None
    bar: Bar
    computed: int = 0  # segments
    ran: int = 0  # batches
    split: int = 0  # batches that did not fit into the GPU's memory

    def do(self, shard: Sequence[Batch], contents: Sequence[str]) -> None:
        """Compute what of a shard is still missing, and write it."""
        missing = set(self.store.missing(contents))
        if len(missing) < len(contents):
            self.bar.advance(len(contents) - len(missing))
        kept = missing.difference(self.frames.missing(missing)) if self.frames is not None else set()
        entries: dict[str, list[Tensor]] = {}
        for batch in shard:
            wanted = [u for u in batch if u.content in missing]
            means = {u.content: self._from_frames(u.content) if u.content in kept else None for u in wanted}
            lacking = [u for u in wanted if means[u.content] is None]
            found, together = extract_batch(self.loaded, lacking, self.read)
            self.ran, self.split = self.ran + bool(lacking), self.split + (not together)
            self.computed += len(lacking)
            for content, mean in means.items():
                entries[content] = reduce(found.pop(content), self.form) if mean is None else mean
                self.bar.advance()
        if entries:
            self.store.write(entries)

    def _from_frames(self, content: str) -> list[Tensor] | None:
        """Time means from stored frames; None where these are damaged."""
        assert self.frames is not None, "only frames that are stored are read"
        try:
            return reduce(Layers(unstacked(self.frames.read(content))), self.form)
        except DamagedError:
            return None


def extract_batch(
    loaded: LoadedUpstream, batch: Sequence[Utterance], read: Callable[[Utterance], Tensor]
) -> tuple[dict[str, Layers], bool]:
    """Features by content, and whether all were computed together: what is too much for the GPU goes in one by one."""
    contents, names = [u.content for u in batch], [u.id for u in batch]
    waves = [read(u) for u in batch]
    if not batch:
        return {}, True
    try:
        return dict(zip(contents, extract(loaded, waves, names), strict=True)), True
    except ResourceError as exc:
        if len(batch) == 1 or not isinstance(exc.__cause__, torch.cuda.OutOfMemoryError):
            raise
    torch.cuda.empty_cache()  # out here, where the failed call and what it held are gone
    alone = [extract(loaded, [wave], [name])[0] for wave, name in zip(waves, names, strict=True)]
    return dict(zip(contents, alone, strict=True)), False


def readable_layers(loaded: LoadedUpstream, form: str, layer: int | None) -> tuple[int, int]:
    """Number of layers a head reads, and their width; refuse layers that cannot be summed, naming them."""
    widths, strides = loaded.upstream.widths, loaded.upstream.strides
    if loaded.integers:
        raise UsageError(
            f"{loaded.who} gives integer codes, which no head reads", "write them with `superbench extract`"
        )
    if layer is not None:
        if not 0 <= layer < len(widths):
            raise UsageError(
                f"{loaded.who} has layers 0 to {len(widths) - 1}; --layers {layer} is none of them",
                "choose one of these, or leave --layers out for the weighted sum of all",
            )
        return 1, widths[layer]
    odd = [i for i in range(len(widths)) if widths[i] != widths[-1] or (form == "frames" and strides[i] != strides[-1])]
    if odd:
        raise ContractError(
            f"{loaded.who}: the layers {odd} differ from the last in width or frame rate, so that no sum over all is "
            f"defined (widths {sorted(set(widths))}, strides {sorted(set(strides))})",
            "score one layer alone with --layers N",
        )
    return len(widths), widths[-1]
