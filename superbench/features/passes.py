"""The one pass: every distinct sound that a run needs goes through the upstream once, or comes from the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from superbench.contracts import FeatureCount, Layers, Utterance
from superbench.errors import ContractError, DataError, UsageError
from superbench.features.extraction import LoadedUpstream, extract
from superbench.features.store import SHARD, FeatureStore
from superbench.progress import Bar


@dataclass(frozen=True, kw_only=True)
class Need:
    """What one form of features costs, before anything runs."""

    form: str
    segments: tuple[Utterance, ...]  # one utterance per distinct sound, sorted by content
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
    total_bytes = total_frames = 0
    short = []
    for utterance in segments:
        frames = loaded.frames(utterance.samples)
        if min(frames) < 1:
            short.append(utterance)
        total_frames += max(frames)
        sizes = loaded.upstream.widths
        total_bytes += 4 * sum(w if form == "pooled" else f * w for f, w in zip(frames, sizes, strict=True))
    if short:
        raise DataError(
            f"{loaded.who} gives no frame for: "
            + ", ".join(f"{u.id} ({u.samples} samples)" for u in short[:20])
            + (f" and {len(short) - 20} more" if len(short) > 20 else ""),
            "leave these recordings out of the corpus, or choose another upstream",
        )
    return Need(form=form, segments=segments, bytes=total_bytes, frames=total_frames)


def reduce(layers: Layers, form: str) -> list[Tensor]:
    """What is kept of a segment, float32: the frames, or each layer's mean over time. One tensor where layers agree."""
    if form == "pooled":
        tensors = [t.double().mean(dim=0).float() for t in layers.tensors]
    else:
        tensors = [t.float() for t in layers.tensors]
    same = len({tuple(t.shape) for t in tensors}) == 1
    return [torch.stack(tensors)] if same else tensors


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
    """Compute what the store lacks, one utterance at a time, a shard at a time. Finished shards survive any stop.

    Time means of sounds whose `frames` are stored already are taken from these: the upstream does not run again.
    """
    begun = time.monotonic()
    by_content: Mapping[str, Utterance] = {u.content: u for u in wanted.segments}
    missing = store.missing(by_content)
    if missing:
        store.require(wanted.bytes * len(missing) // len(by_content))
    there = set(missing) - set(frames.missing(missing)) if frames is not None else set()
    bar.advance(len(by_content) - len(missing))
    for first in range(0, len(missing), SHARD):
        shard = {}
        for content in missing[first : first + SHARD]:
            if frames is not None and content in there:
                layers = Layers(unstacked(frames.read(content)))
            else:
                utterance = by_content[content]
                (layers,) = extract(loaded, [read(utterance)], [utterance.id])
            shard[content] = reduce(layers, wanted.form)
            bar.advance()
        store.write(shard)
    return FeatureCount(
        form=wanted.form,
        segments=len(by_content),
        computed=len(missing) - len(there),
        reused=len(by_content) - len(missing) + len(there),
        bytes=wanted.bytes,
        seconds=time.monotonic() - begun,
        warnings=(*store.warnings, *(frames.warnings if frames is not None else ())),
    )


def readable_layers(loaded: LoadedUpstream, form: str, layer: int | None) -> tuple[int, int]:
    """Number of layers a head reads, and their width; refuse layers that cannot be summed, naming them."""
    widths, strides = loaded.upstream.widths, loaded.upstream.strides
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
