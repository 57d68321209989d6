"""Stage 2 of one run: bring its features to where they are to be, and give them to the heads by index."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from superbench import audio
from superbench.contracts import FeatureCount, Settings, Utterance
from superbench.features.examples import FeatureExamples
from superbench.features.memory_store import MemoryStore
from superbench.features.passes import ensure
from superbench.features.reduction import Form
from superbench.features.sources import Stored, Streamed
from superbench.features.store import FeatureStore, store_folder
from superbench.features.store_catalog import describe
from superbench.pipeline.prepared import Prepared
from superbench.progress import Bar, Progress


def read_wave(utterance: Utterance) -> Tensor:
    """The samples of an utterance as a float32 tensor [n]."""
    return torch.from_numpy(audio.read(utterance))


@dataclass(kw_only=True)
class Features:
    """The features of one run, gathered: where they are, and what they have cost so far."""

    source: Stored | Streamed
    counted: FeatureCount
    store: FeatureStore | MemoryStore | None
    mended: int = 0  # segments that were damaged, and computed again

    def count(self) -> FeatureCount:
        """What has been counted up to now."""
        told = self.counted.warnings
        more = tuple(w for w in (self.store.warnings if self.store else ()) if w not in told)
        found = replace(self.counted, warnings=(*told, *more))
        if isinstance(self.source, Streamed):
            return replace(found, reused=len(self.source.kept), streamed=self.source.encoded)
        return replace(found, computed=found.computed + self.mended, reused=max(0, found.reused - self.mended))

    def examples(self, prepared: Prepared) -> FeatureExamples:
        """The corpus as heads read it."""
        utterances, labels, loaded = prepared.corpus.utterances, prepared.labels, prepared.loaded
        sizes = {u.content: size for u, size in zip(prepared.need.segments, prepared.need.sizes, strict=True)}
        layer = prepared.plan.layers
        return FeatureExamples(
            self.source,
            utterances,
            [labels.encode(u.reference) for u in utterances],
            form=prepared.form,
            lengths=[loaded.frames(u.samples)[0 if layer is None else layer] for u in utterances],
            sizes=[prepared.form.held(sizes[u.content]) for u in utterances],
            layer=layer,
            device=prepared.plan.device,
            budget=prepared.memory,
        )


class Gathering:
    """The features of all runs of one command: what is in memory is shared by its tasks."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._settings, self._progress = settings, progress
        self._memory: dict[tuple[str, Form], MemoryStore] = {}

    def gather(self, prepared: Prepared) -> Features:
        """Compute what is not there, unless it is to be computed as it is wanted."""
        placement = prepared.placement
        plan, form, loaded, need = prepared.plan, prepared.form, prepared.loaded, prepared.need
        frames = self._frames(prepared)
        self._make_room(prepared, frames)
        if placement.where == "streamed":
            return self._streamed(prepared)
        store: FeatureStore | MemoryStore
        if placement.where == "disk":
            # a store that may not be written will do where all is there
            only_read = not placement.missing and not os.access(self._settings.store, os.W_OK)
            store = FeatureStore(self._settings.store, plan.upstream_key, form.name, form.dtype, read_only=only_read)
            about = {"upstream": plan.upstream, "plugin": str(loaded.provenance), "layers": loaded.layers}
            describe(self._settings.store, plan.upstream_key, about)
        else:
            store = self._memory.setdefault((plan.upstream_key, form), MemoryStore(form))
        with self._progress.stage(f"{plan.task}: {form} features", len(need.segments)) as bar:
            counted = ensure(loaded, store, need, read_wave, bar=bar, frames=frames)
        features = Features(
            source=Stored(store, lambda: None),
            counted=replace(counted, where=placement.where),
            store=store,
        )

        told = set(counted.warnings)

        def mend() -> None:
            more = ensure(loaded, store, need, read_wave, bar=Bar(), frames=frames)
            features.mended += more.computed
            for warning in more.warnings:
                if warning not in told:
                    self._progress.warn(f"{plan.task}: {warning}")
            told.update(more.warnings)

        features.source = Stored(store, mend)
        return features

    def _streamed(self, prepared: Prepared) -> Features:
        plan, form, need, placement = prepared.plan, prepared.form, prepared.need, prepared.placement
        kept = frozenset(u.content for u in need.segments) - placement.missing
        store = FeatureStore(self._settings.store, plan.upstream_key, form.name, form.dtype) if kept else None
        counted = FeatureCount(
            form=str(form),
            segments=len(need.segments),
            computed=0,
            reused=len(kept),
            bytes=need.bytes,
            seconds=0.0,
            where="streamed",
        )
        self._progress.warn(
            f"{plan.task}: features are streamed ({placement.why}): the upstream runs on each sound once per epoch, "
            "not once"
        )
        source = Streamed(prepared.loaded, form, read_wave, store=store, kept=kept)
        return Features(source=source, counted=counted, store=store)

    def _make_room(self, prepared: Prepared, frames: FeatureStore | MemoryStore | None) -> None:
        """Forget what this run does not want of its form, and the other forms where they do not fit beside."""
        form, need, where = prepared.form, prepared.need, prepared.placement.where
        mine = self._memory.get((prepared.plan.upstream_key, form)) if where == "memory" else None
        if mine is not None:
            mine.keep_only({u.content for u in need.segments})
        others = [store for store in self._memory.values() if store is not mine and store is not frames]
        wanted = form.held(need.bytes) if where != "disk" else 0
        if wanted + sum(store.bytes for store in others) > prepared.memory:
            for store in others:
                store.keep_only(())

    def _frames(self, prepared: Prepared) -> FeatureStore | MemoryStore | None:
        """Frames that time means can be taken from: they are the same sounds through the same upstream."""
        form = Form(name="frames", dtype=prepared.form.dtype)
        key, root = prepared.plan.upstream_key, self._settings.store
        if not prepared.form.pooled:
            return None
        if store_folder(root, key, form.name, form.dtype).is_dir() and prepared.placement.where == "disk":
            return FeatureStore(root, key, form.name, form.dtype)
        return self._memory.get((key, form))


def frames_first(prepared: Sequence[Prepared]) -> list[Prepared]:
    """The order of extraction: frames before the time means that can be taken from them."""
    return sorted(prepared, key=lambda p: p.form.pooled)
