"""Stored features as a head reads them: batches of utterances by index."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from superbench.features.store import FeatureStore

RESIDENT = 4 * 2**30  # bytes of features kept in memory; more than that is read from the store at every batch


def _select(tensors: list[Tensor], layer: int | None) -> Tensor:
    """[L, ...] of all layers, or [1, ...] of one."""
    if layer is None:
        return tensors[0] if len(tensors) == 1 else torch.stack(tensors)
    return tensors[0][layer : layer + 1] if len(tensors) == 1 else tensors[layer][None]


class StoredExamples:
    """Features and targets of a corpus, by index. Pooled: [L, D] each; frames: [L, T, D] each."""

    def __init__(
        self,
        store: FeatureStore,
        contents: Sequence[str],
        targets: Sequence[tuple[int, ...]],
        *,
        form: str,
        layer: int | None,
        device: str,
        bytes_in_all: int,
    ) -> None:
        self.form, self.layer, self.device = form, layer, device
        self._store, self._contents = store, tuple(contents)
        self.targets = tuple(targets)
        self._kept: dict[str, Tensor] | None = {} if bytes_in_all <= RESIDENT else None
        self.lengths = tuple(1 if form == "pooled" else store.frames(c, layer) for c in contents)
        self._pooled = self._all_pooled().to(device) if form == "pooled" else None

    def _all_pooled(self) -> Tensor:
        """[N, L, D]: one at a time into one tensor, so that they are never there twice."""
        first = _select(self._store.read(self._contents[0]), self.layer)
        found = first.new_empty((len(self._contents), *first.shape))
        for i, content in enumerate(self._contents):
            found[i] = _select(self._store.read(content), self.layer)
        return found

    def _features(self, index: int) -> Tensor:
        if self._pooled is not None:
            return self._pooled[index]
        content = self._contents[index]
        if self._kept is not None and content in self._kept:
            return self._kept[content]
        found = _select(self._store.read(content), self.layer)
        if self._kept is not None:
            self._kept[content] = found
        return found

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Pooled: x_BLD and None. Frames: x_BLTD padded with zeros, and lengths_B (on the CPU)."""
        if self._pooled is not None:
            return self._pooled[torch.as_tensor(list(indices), device=self._pooled.device)], None
        items = [self._features(i) for i in indices]
        lengths = torch.tensor([x.shape[1] for x in items])
        padded = items[0].new_zeros((len(items), items[0].shape[0], int(lengths.max()), items[0].shape[2]))
        for row, x in enumerate(items):
            padded[row, :, : x.shape[1]] = x
        return padded.to(self.device), lengths

    def spread(self) -> float:
        """Largest standard deviation of a pooled feature over the utterances; 0 where features are frames."""
        return 0.0 if self._pooled is None or len(self._pooled) < 2 else float(self._pooled.double().std(dim=0).max())

    def layer_norms(self, indices: Sequence[int]) -> tuple[float, ...]:
        """Mean feature norm of each layer over some utterances: of their frames, or of their time means if pooled."""
        norms = [self._features(i).norm(dim=-1) for i in indices]  # [L], or [L, T]
        means = torch.stack([n.reshape(n.shape[0], -1).mean(dim=1) for n in norms])
        return tuple(means.mean(dim=0).tolist())
