"""SpecAugment on the weighted sum, in training only: a time warp, then masks of zeros over features and over time.

Drawn once for the whole effective batch and kept as numbers, so that cutting it into micro-batches changes nothing.
Source: s3prl@ec8064b, downstream/specaug.py, as SUPERB's ASR sets it. Shapes: x_BTD with lengths_B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from superbench.plugin import SpecAugment


@dataclass(frozen=True)
class Augmentation:
    """What was drawn for some utterances: B rows of each tensor, on the CPU."""

    warps: Tensor  # [B, 2]: frame before which the left part ends, and where that end is moved to; 0, 0: not warped
    features: Tensor  # [B, M, 2]: first feature and width of every mask
    frames: Tensor  # [B, M, 2]: first frame and width of every mask

    def __getitem__(self, rows: slice) -> Augmentation:
        return Augmentation(self.warps[rows], self.features[rows], self.frames[rows])

    def __call__(self, x_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        """Warp every utterance within its own length, then put zeros where a mask lies."""
        warped = [_warp(x[:n], *w) for x, n, w in zip(x_BTD, lengths_B.tolist(), self.warps.tolist(), strict=True)]
        x_BTD = torch.stack([F.pad(x, (0, 0, 0, x_BTD.shape[1] - len(x))) for x in warped])
        masked_BD = _covered(self.features.to(x_BTD.device), x_BTD.shape[2])
        masked_BT = _covered(self.frames.to(x_BTD.device), x_BTD.shape[1])
        return x_BTD.masked_fill(masked_BD[:, None, :] | masked_BT[:, :, None], 0.0)


def draw(constants: SpecAugment, lengths: Sequence[int], width: int, seed: int) -> Augmentation:
    """Draw for one effective batch of utterances of `lengths` frames of `width` features.

    The point that moves lies at least `time_warp` frames from both ends, and lands within as many of where it was, from
    one after the left bound to the right one. A mask begins so that the widest mask drawn for the batch would still end
    within the longest utterance (or the features); one that is wider than that begins at 0.
    """
    generator = torch.Generator().manual_seed(seed)
    window = constants.time_warp
    warps = []
    for frames in lengths:
        if frames <= 2 * window or window == 0:
            warps.append([0, 0])
            continue
        point = int(torch.randint(window, frames - window, (1,), generator=generator))
        warps.append([point, int(torch.randint(point - window, point + window, (1,), generator=generator)) + 1])
    return Augmentation(
        torch.tensor(warps),
        _masks(len(lengths), constants.frequency_masks, constants.frequency_width, width, generator),
        _masks(len(lengths), constants.time_masks, constants.time_width, max(lengths), generator),
    )


def _masks(utterances: int, masks: int, width: int, size: int, generator: torch.Generator) -> Tensor:
    """[B, M, 2]: first place and width of each mask over `size` places."""
    if masks == 0 or width == 0:
        return torch.zeros(utterances, 0, 2, dtype=torch.long)
    widths = torch.randint(0, width, (utterances, masks), generator=generator)
    firsts = torch.randint(0, max(1, size - int(widths.max())), (utterances, masks), generator=generator)
    return torch.stack((firsts, widths), dim=2)


def _covered(masks_BM2: Tensor, size: int) -> Tensor:
    """Which of `size` places lie under a mask: [B, size]."""
    place = torch.arange(size, device=masks_BM2.device)
    first, width = masks_BM2[:, :, :1], masks_BM2[:, :, 1:]
    return ((first <= place) & (place < first + width)).any(dim=1)


def _warp(x_TD: Tensor, point: int, moved: int) -> Tensor:
    """Stretch or shrink what lies before `point` to `moved` frames and the rest to the rest, bicubically in time."""
    if moved == 0:
        return x_TD
    parts = (x_TD[:point], moved), (x_TD[point:], len(x_TD) - moved)
    return torch.cat([_resized(part, frames) for part, frames in parts])


def _resized(x_TD: Tensor, frames: int) -> Tensor:
    size = (frames, x_TD.shape[1])
    return F.interpolate(x_TD[None, None], size, mode="bicubic", align_corners=False)[0, 0]
