"""What happens where memory runs out: less at a time, with the same effective batch, and never an utterance dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from superbench.errors import ResourceError
from superbench.progress import Bar

Done = TypeVar("Done")
# torch has a kind of error for a GPU's memory; of a CPU's, cuBLAS's, cuDNN's and of pinned memory there are words only
WORDS = ("DefaultCPUAllocator: ", "_STATUS_ALLOC_FAILED", "CUDA error: out of memory")


def within_memory(work: Callable[[], Done]) -> Done | None:
    """What `work` gives; None where memory runs out."""
    try:
        return work()
    except (MemoryError, RuntimeError) as exc:
        if not _out_of_memory(exc):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # out here, where the failed call and what it held are gone
    return None


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in WORDS)


def fewer(size: int, effective: int, bar: Bar) -> int:
    """Half of a micro-batch that was too much, and a warning; `ResourceError` where it was one utterance."""
    if size == 1:
        raise out_of_memory("one utterance at a time")
    half = -(-size // 2)
    bar.warn(
        f"memory ran out on {size} utterances at a time: {half} at a time from here on, still {effective} per step"
    )
    return half


def out_of_memory(what: str) -> ResourceError:
    """The clear stop where no less can be done at a time."""
    return ResourceError(
        f"training: memory ran out on {what}; nothing was dropped, and no row is stored",
        "cut the longest recordings, choose a smaller head with --head, fewer learning rates at a time with --lr, less "
        "--memory, or a machine with more of it; the same command goes on from the last evaluation",
    )
