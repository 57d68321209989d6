"""Features as a head reads them: batches of utterances by index, from memory, from a store, or from the upstream.

Time means that fit into the budget of memory lie in it as one tensor. What is too much for it, or is computed as it is
wanted, is fetched for as many coming steps at a time as fit: each segment once, whatever the steps that want it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from superbench.contracts import Utterance
from superbench.features.reduction import Form, select
from superbench.features.sources import Stored, Streamed

BUDGET = 4 * 2**30  # bytes of features kept in memory, unless another budget is given
LOOKED_AT = 1024  # utterances by which one tells whether features vary


@dataclass(frozen=True, kw_only=True)
class Window:
    """The coming steps that there is room for, and what they want."""

    steps: int
    rows: int  # utterances of these steps, as often as they come up
    wanted: Mapping[str, int]  # an utterance of each content


def window(coming: Iterable[Sequence[int]], contents: Sequence[str], sizes: Sequence[int], room: int) -> Window:
    """As many of the coming steps as fit; a content that comes up again takes no more room."""
    steps = rows = size = 0
    wanted: dict[str, int] = {}
    for indices in coming:
        more = {contents[i]: i for i in indices}
        size += sum(sizes[i] for content, i in more.items() if content not in wanted)
        if size > room:
            break
        wanted |= more
        steps, rows = steps + 1, rows + len(indices)
    return Window(steps=steps, rows=rows, wanted=wanted)


class FeatureExamples:
    """Features and targets of a corpus, by index. Pooled: [L, D] each; frames: [L, T, D] each."""

    def __init__(
        self,
        source: Stored | Streamed,
        segments: Sequence[Utterance],
        targets: Sequence[tuple[int, ...]],
        *,
        form: Form,
        lengths: Sequence[int],
        sizes: Sequence[int],
        layer: int | None = None,
        device: str = "cpu",
        budget: int = BUDGET,
    ) -> None:
        """`lengths`: frames, and `sizes`: bytes in memory, of each utterance's features, all layers of them."""
        self.form, self.layer, self.device = form, layer, device
        self.targets, self.lengths = tuple(targets), tuple(1 if form.pooled else n for n in lengths)
        self._source, self._segments, self._sizes = source, tuple(segments), tuple(sizes)
        self._contents = [s.content for s in segments]
        distinct = sum({s.content: size for s, size in zip(segments, sizes, strict=True)}.values())
        fits = (sum(sizes) if form.pooled else distinct) <= budget
        self._resident = self._all_pooled().to(device) if form.pooled and fits and source.quick else None
        windowed = self._resident is None and (form.pooled or not source.quick)
        self._room = budget // 2 if windowed else None
        self._held: dict[str, Tensor] = {}  # by content: of the coming steps, or all where they fit
        self._keep = fits and self._room is None
        self._rows = 0  # that are still wanted of the window

    @property
    def reads_ahead(self) -> bool:
        """Frames in a store are read and padded by another thread; all else is there, or would disturb it."""
        return self._room is None and self._resident is None

    def expect(self, coming: Iterator[list[int]]) -> int:
        """Fetch what the coming steps want, of as many as there is room for; 0 where there is no need to."""
        if self._room is None:
            return 0
        found = window(coming, self._contents, self._sizes, self._room)
        self._held.clear()
        self._held |= self._fetched([found.wanted[content] for content in sorted(found.wanted)])
        self._rows = found.rows
        return max(found.steps, 1)  # where not even one step fits, its micro-batches are fetched as they come

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Pooled: x_BLD and None. Frames: x_BLTD padded with zeros, and lengths_B (on the CPU). Layers lie first."""
        if self._resident is not None:
            at = torch.as_tensor(list(indices), device=self._resident.device)
            return self._resident.index_select(1, at).transpose(0, 1), None
        items = self._features(indices)
        if self.form.pooled:
            return torch.stack(items, dim=1).to(self.device).transpose(0, 1), None
        lengths = torch.tensor([x.shape[1] for x in items])
        layers, _, width = items[0].shape
        pinned = torch.device(self.device).type == "cuda"
        x_LBTD = torch.empty((layers, len(items), int(lengths.max()), width), dtype=items[0].dtype, pin_memory=pinned)
        for row, x in enumerate(items):
            x_LBTD[:, row, : x.shape[1]] = x
            x_LBTD[:, row, x.shape[1] :] = 0
        return x_LBTD.to(self.device, non_blocking=pinned).transpose(0, 1), lengths

    def spread(self) -> float:
        """Largest standard deviation of a pooled feature over some utterances; 0 where features are frames."""
        if not self.form.pooled or len(self._segments) < 2:
            return 0.0
        x, _ = self.batch(range(min(LOOKED_AT, len(self._segments))))
        return float(x.double().std(dim=0).max())

    def layer_norms(self, indices: Sequence[int]) -> tuple[float, ...]:
        """Mean feature norm of each layer over some utterances: of their frames, or of their time means if pooled."""
        if self.form.pooled:
            norms_BL = self.batch(indices)[0].norm(dim=-1)
        else:
            norms_BL = torch.stack([x.norm(dim=-1).mean(dim=1) for i in indices for x in self._features([i])])
        return tuple(norms_BL.mean(dim=0).tolist())

    def _all_pooled(self) -> Tensor:
        """[L, N, D]: one at a time into one tensor, so that they are never there twice."""
        places: dict[str, list[int]] = {}
        for i, segment in enumerate(self._segments):
            places.setdefault(segment.content, []).append(i)
        found = None
        for content, tensors in self._source.fetch([self._segments[rows[0]] for rows in places.values()]):
            x_LD = select(tensors, self.layer)
            if found is None:
                found = x_LD.new_empty((x_LD.shape[0], len(self._segments), x_LD.shape[1]))
            for i in places[content]:
                found[:, i] = x_LD
        assert found is not None, "a corpus has utterances"
        return found

    def _features(self, indices: Sequence[int]) -> list[Tensor]:
        """What is held, and what is not, fetched together. A window of which every row was given is forgotten.

        So nothing but steps sees it, and a run that goes on after its last step says what one never stopped says.
        """
        first = {self._contents[i]: i for i in indices}
        found = {content: self._held[content] for content in first if content in self._held}
        lacking = self._fetched([i for content, i in first.items() if content not in found])
        if self._keep:
            self._held |= lacking
        found |= lacking
        self._rows -= len(indices)
        if self._room is not None and self._rows <= 0:
            self._held.clear()
        return [found[self._contents[i]] for i in indices]

    def _fetched(self, indices: Sequence[int]) -> dict[str, Tensor]:
        segments = [self._segments[i] for i in indices]
        return {content: select(tensors, self.layer) for content, tensors in self._source.fetch(segments)}
