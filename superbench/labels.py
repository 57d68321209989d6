"""Vocabularies: what a task's references are made of, and how a head's outputs become text again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol


class Labels(Protocol):
    """A vocabulary: `size` outputs of the head, references to indices and indices to text."""

    @property
    def size(self) -> int: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    def encode(self, reference: str) -> tuple[int, ...]:
        """Indices of the target; raises `KeyError` with the symbols that are not in the vocabulary."""
        ...

    def decode(self, indices: Sequence[int]) -> str:
        """Text of a hypothesis."""
        ...


@dataclass(frozen=True)
class ClassLabels:
    """One class per utterance."""

    names: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.names)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def encode(self, reference: str) -> tuple[int, ...]:
        if reference not in self._index:
            raise KeyError(reference)
        return (self._index[reference],)

    def decode(self, indices: Sequence[int]) -> str:
        (index,) = indices
        return self.names[index]

    @classmethod
    def sorted_from(cls, references: Iterable[str]) -> ClassLabels:
        """The sorted distinct training labels."""
        return cls(tuple(sorted(set(references))))


@dataclass(frozen=True)
class TokenLabels:
    """A CTC vocabulary: `split` cuts a reference into tokens, `join` puts tokens together again.

    Index `blank` is the CTC blank. `ending` is appended to every target. `silent` tokens (specials) are never written
    into a hypothesis.
    """

    names: tuple[str, ...]
    blank: int
    ending: tuple[str, ...]
    silent: tuple[str, ...]
    split: Callable[[str], Sequence[str]]
    join: Callable[[Sequence[str]], str]

    @property
    def size(self) -> int:
        return len(self.names)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def encode(self, reference: str) -> tuple[int, ...]:
        tokens = [*self.split(reference), *self.ending]
        unknown = sorted({t for t in tokens if t not in self._index})
        if unknown:
            raise KeyError(*unknown)
        return tuple(self._index[t] for t in tokens)

    def decode(self, indices: Sequence[int]) -> str:
        return self.join(self._heard(indices))

    def units(self, indices: Sequence[int]) -> str:
        """Symbols with spaces between, as they came, without the silent ones: what a unit error rate compares."""
        return " ".join(self._heard(indices))

    def _heard(self, indices: Sequence[int]) -> list[str]:
        silent = set(self.silent)
        return [self.names[i] for i in indices if self.names[i] not in silent]
