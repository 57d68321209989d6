"""The one pass: every distinct sound that a run needs goes through the upstream once, or comes from the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from superbench.contracts import FeatureCount, Layers, Utterance
from superbench.errors import ContractError, DataError, ResourceError, UsageError
from superbench.features.batching import batch_samples, form_batches, form_shards
from superbench.features.extraction import LoadedUpstream, extract
from superbench.features.store import SHARD, FeatureStore
from superbench.progress import Bar

SHARD_BYTES = 256 * 2**20  # of features in one shard at most: so much is held in memory, and lost when a run is killed


@dataclass(frozen=True, kw_only=True)
class Need:
    """What one form of features costs, before anything runs."""

    form: str
    segments: tuple[Utterance, ...]  # one utterance per distinct sound, sorted by content
    sizes: tuple[int, ...]  # bytes of each segment
    bytes: int
    frames: int


def segments_of(utterances: Sequence[Utterance]) -> tuple[Utterance, ...]:
    """One utterance per distinct sound, sorted by content: what is extracted does not depend on names or order."""
    first: dict[str, Utterance] = {}
    for utterance in utterances:
        first.setdefault(utterance.content, utterance)
    return tuple(first[c] for c in sorted(first))


def need(loaded: LoadedUpstream, utterances: Sequence[Utterance], form: str) -> Need:
    """Count segments, frames and bytes (float32); refuse sounds the upstream cannot take, naming all of them."""
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
    total_frames = 0
    short = []
    for utterance in segments:
        frames = loaded.frames(utterance.samples)
        if min(frames) < 1:
            short.append(utterance)
        total_frames += max(frames)
        widths = loaded.upstream.widths
        sizes.append(4 * sum(w if form == "pooled" else f * w for f, w in zip(frames, widths, strict=True)))
    if short:
        raise DataError(
            f"{loaded.who} gives no frame for: "
            + ", ".join(f"{u.id} ({u.samples} samples)" for u in short[:20])
            + (f" and {len(short) - 20} more" if len(short) > 20 else ""),
            "leave these recordings out of the corpus, or choose another upstream",
        )
    return Need(form=form, segments=segments, sizes=tuple(sizes), bytes=sum(sizes), frames=total_frames)


def reduce(layers: Layers, form: str) -> list[Tensor]:
    """What is kept of a segment, float32: the frames, or each layer's mean over time. One tensor where layers agree."""
    if form == "pooled":
        tensors = [t.double().mean(dim=0).float() for t in layers.tensors]
    else:
        tensors = [t.float() for t in layers.tensors]
    same = len({tuple(t.shape) for t in tensors}) == 1
    # clones: a piece of a batch would keep all of it in memory
    return [torch.stack(tensors)] if same else [t.clone() for t in tensors]


def unstacked(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Stored frames as one tensor [T, D] per layer."""
    return tuple(tensors[0]) if len(tensors) == 1 else tuple(tensors)


def ensure(
    loaded: LoadedUpstream,
    store: FeatureStore,
    wanted: Need,
    read: Callable[[Utterance], Tensor],
    *,
    bar: Bar,
    frames: FeatureStore | None = None,
) -> FeatureCount:
    """Compute what the store lacks, batch by batch, a shard at a time. Finished shards survive any stop.

    Batches and shards are those of the whole list; what is stored already is left out of them, whatever lacks. Time
    means of sounds whose `frames` are stored already are taken from these: the upstream does not run again.
    """
    begun = time.monotonic()
    sizes = {u.content: size for u, size in zip(wanted.segments, wanted.sizes, strict=True)}
    missing = set(store.missing(sizes))
    if missing:
        store.require(sum(sizes[content] for content in missing))
    kept = missing - set(frames.missing(missing)) if frames is not None else set()
    bar.advance(len(sizes) - len(missing))
    lacking = missing - kept
    ran = split = 0  # batches; those that did not fit into the GPU's memory
    batches = form_batches(wanted.segments, batch_samples(loaded))
    for shard in form_shards(batches, sizes, segments=SHARD, bytes_in_all=SHARD_BYTES):
        entries: dict[str, list[Tensor]] = {}
        for batch in shard:
            found, together = _extract_batch(loaded, [u for u in batch if u.content in lacking], read)
            ran, split = ran + bool(found), split + (not together)
            for content in (u.content for u in batch if u.content in missing):
                layers = _stored_layers(frames, content) if content in kept else found.pop(content)
                entries[content] = reduce(layers, wanted.form)
                bar.advance()
        if entries:
            store.write(entries)
    too_large = f"{split} of {ran} batches did not fit into the GPU's memory: their sounds were computed one at a time"
    return FeatureCount(
        form=wanted.form,
        segments=len(sizes),
        computed=len(missing) - len(kept),
        reused=len(sizes) - len(missing) + len(kept),
        bytes=wanted.bytes,
        seconds=time.monotonic() - begun,
        warnings=(
            *store.warnings,
            *(frames.warnings if frames is not None else ()),
            *([too_large] if split else []),
        ),
    )


def _stored_layers(frames: FeatureStore | None, content: str) -> Layers:
    assert frames is not None, "only frames that are stored are read"
    return Layers(unstacked(frames.read(content)))


def _extract_batch(
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
