"""Features as the numbers they are stored as, and back. What a form cannot hold is refused, never clipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from superbench.errors import NumericalError
from superbench.features.stored_forms import NUMBERS

LARGEST_CODE = 127  # of int8; -128 is not used, so that both signs reach equally far


@dataclass(frozen=True, kw_only=True)
class EncodedTensor:
    """One tensor as it is stored; `scales` of int8 only: float32, its shape without the time axis."""

    values: Tensor
    scales: Tensor | None = None


def encode(tensors: Sequence[Tensor], dtype: str, segment: str) -> list[EncodedTensor]:
    """Tensors [..., T, D] as stored numbers, uncopied where they are so. Raises `NumericalError` naming the segment."""
    return [_encode(t.detach().cpu(), dtype, segment) for t in tensors]


def _encode(tensor: Tensor, dtype: str, segment: str) -> EncodedTensor:
    wanted: torch.dtype = getattr(torch, dtype)
    if tensor.dtype == wanted and dtype != "int8":
        return EncodedTensor(values=tensor.contiguous())
    if dtype != "int8":
        values = tensor.to(wanted).contiguous()
        if not bool(torch.isfinite(values).all()):
            raise _too_large(tensor, dtype, segment)
        return EncodedTensor(values=values)
    x = tensor.float()
    absmax = x.abs().amax(dim=-2) if x.shape[-2] else x.new_zeros((*x.shape[:-2], x.shape[-1]))
    if not bool(torch.isfinite(absmax).all()):
        raise _too_large(tensor, dtype, segment)
    scales = absmax / LARGEST_CODE
    # a dimension that is zero throughout has scale 0 and codes 0
    steps = torch.where(scales > 0, scales, torch.ones(())).unsqueeze(-2)
    codes = (x / steps).round_().clamp_(-LARGEST_CODE, LARGEST_CODE).to(torch.int8)
    return EncodedTensor(values=codes.contiguous(), scales=scales.contiguous())


def _too_large(tensor: Tensor, dtype: str, segment: str) -> NumericalError:
    largest = NUMBERS[dtype].largest
    found = float(tensor.abs().max())  # nan where there is one
    limit = f", which holds no more than {largest:g}" if largest else ""
    other = "bfloat16 or float32" if dtype == "float16" else "float32"
    return NumericalError(
        f"a feature of segment {segment} is {found:g}: it cannot be stored as {dtype}{limit}",
        f"store the frames as {other}: --store-dtype",
    )


def decode(values: Tensor, scales: Tensor | None) -> Tensor:
    """Stored numbers as float32, or float64 as they are. What is float32 already is not copied."""
    if scales is not None:
        return values.float().mul_(scales.unsqueeze(-2))
    return values if values.dtype in (torch.float32, torch.float64) else values.float()
