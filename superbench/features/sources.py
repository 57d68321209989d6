"""Where a segment's features come from while heads train: a store that has them all, or the upstream itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from superbench.contracts import Utterance
from superbench.errors import DamagedError
from superbench.features.batching import batch_samples, form_batches
from superbench.features.extraction import LoadedUpstream
from superbench.features.memory_store import MemoryStore
from superbench.features.passes import extract_batch
from superbench.features.reduction import Form, as_if_stored, reduce
from superbench.features.store import FeatureStore


class Stored:
    """Features from a store that has all of them; what turns out to be damaged is computed again by `mend`."""

    quick = True  # a segment may be read whenever it is wanted

    def __init__(self, store: FeatureStore | MemoryStore, mend: Callable[[], None]) -> None:
        self._store, self._mend = store, mend

    def fetch(self, segments: Sequence[Utterance]) -> Iterator[tuple[str, list[Tensor]]]:
        """Features of some segments, by content."""
        for segment in segments:
            try:
                yield segment.content, self._store.read(segment.content)
            except DamagedError:
                self._mend()
                yield segment.content, self._store.read(segment.content)


class Streamed:
    """Features from the upstream, each time they are wanted, in batches by length; from the store where it has them."""

    quick = False  # what is wanted soon should be fetched together

    def __init__(
        self,
        loaded: LoadedUpstream,
        form: Form,
        read: Callable[[Utterance], Tensor],
        *,
        store: FeatureStore | None = None,
        kept: frozenset[str] = frozenset(),
    ) -> None:
        self._loaded, self._form, self._read = loaded, form, read
        self._store = store
        self.kept = set(kept)  # contents of the segments that are stored
        self.encoded = 0  # segments that went through the upstream

    def fetch(self, segments: Sequence[Utterance]) -> Iterator[tuple[str, list[Tensor]]]:
        """Features of some segments, by content."""
        lacking = []
        for segment in segments:
            found = self._kept_one(segment.content)
            if found is None:
                lacking.append(segment)
            else:
                yield segment.content, found
        for batch in form_batches(lacking, batch_samples(self._loaded)):
            computed, _ = extract_batch(self._loaded, batch, self._read)
            self.encoded += len(batch)
            for content, layers in computed.items():
                yield content, as_if_stored(reduce(layers, self._form), self._form, content)

    def _kept_one(self, content: str) -> list[Tensor] | None:
        """Stored features of a segment; None where there are none, or they turn out to be damaged."""
        if self._store is None or content not in self.kept:
            return None
        try:
            return self._store.read(content)
        except DamagedError:
            self.kept.discard(content)
            return None
