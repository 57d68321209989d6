"""Features of sound files, for people who want the arrays themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from superbench import audio
from superbench.errors import UsageError
from superbench.features.extraction import LoadedUpstream, extract, in_dtype
from superbench.progress import Progress

if TYPE_CHECKING:
    import numpy as np


def extract_files(
    loaded: LoadedUpstream,
    files: Sequence[Path],
    *,
    dtype: str,
    batch_size: int,
    resample: bool,
    progress: Progress,
) -> dict[str, np.ndarray[Any, Any]]:
    """Features of whole files: [L, T, D] under each stem; [T, D] under STEM/LAYER where the layers differ in rate.

    `batch_size` waves go into one call of the upstream; a batch must not change its members' features. Integer codes
    [T, K] stay the integers they are.
    """
    loaded = in_dtype(loaded, dtype)
    if batch_size > 1 and not getattr(loaded.upstream, "exact_batches", False):
        raise UsageError(
            f"{loaded.who} does not claim that a batch gives each wave the features it has alone",
            "leave --batch-size out, or state exact_batches = True where it is so",
        )
    rate = loaded.upstream.sample_rate
    stackable = len(set(loaded.upstream.strides)) == len(set(loaded.upstream.widths)) == 1
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    with progress.stage("extract", len(files)) as bar:
        for first in range(0, len(files), batch_size):
            chunk = files[first : first + batch_size]
            waves = [torch.from_numpy(audio.read_file(f, rate=rate, resample=resample)) for f in chunk]
            for file, layers in zip(chunk, extract(loaded, waves, [str(f) for f in chunk]), strict=True):
                if stackable:
                    arrays[file.stem] = torch.stack(layers.tensors).numpy()
                else:
                    arrays |= {f"{file.stem}/{i}": t.numpy() for i, t in enumerate(layers.tensors)}
                bar.advance()
    return arrays
