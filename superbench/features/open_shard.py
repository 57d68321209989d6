"""A shard that is being read: its header, its numbers mapped into memory, and which of its entries were checked."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from superbench.errors import DamagedError
from superbench.features.shards import Piece, check_entry, opened, read_header
from superbench.features.stored_forms import NUMBERS

TYPES: dict[str, torch.dtype] = {number.code: getattr(torch, name) for name, number in NUMBERS.items()}
CODES = {dtype: code for code, dtype in TYPES.items()}


class ReplacedError(Exception):
    """The file under this name is another one now: it has to be opened again."""


class OpenShard:
    """The mapping outlives the file's name: what was checked can be read after the shard was pruned or put aside."""

    def __init__(self, path: Path, place: str) -> None:
        self._path = path
        self._checked: set[str] = set()
        descriptor = opened(path)
        try:
            self.header = read_header(path, place, descriptor)
            self._file = _identity(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        try:  # private: nothing that is done to these tensors reaches the file; no descriptor is kept open
            self._numbers = torch.from_file(str(path), shared=False, size=self.header.size, dtype=torch.uint8)
        except RuntimeError as exc:  # gone or shorter since the header was read: what is there now is looked at again
            raise ReplacedError from exc

    def verify(self, segment: str) -> None:
        """Check an entry's numbers, once, by reading the file: a bad disk is an error then, not the end of the process.

        Raises `DamagedError`, and `ReplacedError` where the file is not the one that was opened.
        """
        if segment in self._checked:
            return
        if segment not in self.header.entries:
            raise DamagedError(f"{self._path.name} has no segment {segment[:12]}", "run the command again")
        descriptor = opened(self._path)
        try:
            if _identity(os.fstat(descriptor)) != self._file:
                raise ReplacedError
            check_entry(self._path, self.header, segment, descriptor)
        finally:
            os.close(descriptor)
        self._checked.add(segment)

    def tensor(self, piece: Piece) -> Tensor:
        """One stored tensor, as it is stored, without a copy."""
        numbers = self._numbers[self.header.begin + piece.begin : self.header.begin + piece.end]
        return numbers.view(TYPES[piece.code]).view(piece.shape)


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns
