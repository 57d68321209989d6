"""Features of one run that are not to be kept: a store that lives as long as the process."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from torch import Tensor

from superbench.errors import IntegrityError
from superbench.features.reduction import Form, as_if_stored


class MemoryStore:
    """What `FeatureStore` is, in memory; to be shared by all tasks of one command."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.warnings: list[str] = []
        self._entries: dict[str, list[Tensor]] = {}

    @property
    def bytes(self) -> int:
        """Of all entries."""
        return sum(t.nbytes for tensors in self._entries.values() for t in tensors)

    def missing(self, segments: Iterable[str]) -> list[str]:
        """The segments that are not here; sorted, each once."""
        return sorted(set(segments) - set(self._entries))

    def read(self, segment: str) -> list[Tensor]:
        """Tensors of one segment, as a store gives them back."""
        if segment not in self._entries:
            raise IntegrityError(f"features of segment {segment[:12]} are not in memory", "run the command again")
        return self._entries[segment]

    def frames(self, segment: str, layer: int | None) -> int:
        """Frames of a segment (of one layer)."""
        tensors = self.read(segment)
        return tensors[0 if len(tensors) == 1 or layer is None else layer].shape[-2]

    def require(self, bytes_needed: int) -> None:
        """Whether there is room was asked before this kind of store was chosen."""

    def claim(self, segments: Iterable[str]) -> bool:
        """No other process writes here."""
        return True

    def release(self, segments: Iterable[str]) -> None:
        """Nothing is held."""

    def write(self, entries: Mapping[str, list[Tensor]]) -> None:
        """Keep some entries."""
        for segment, tensors in entries.items():
            self._entries[segment] = as_if_stored(tensors, self.form, segment)

    def save_index(self) -> None:
        """There is none."""

    def keep_only(self, segments: Collection[str]) -> None:
        """Forget all entries but these."""
        self._entries = {s: t for s, t in self._entries.items() if s in segments}
