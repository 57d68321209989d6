"""`distilhubert`: DistilHuBERT, two layers that predict three of a teacher's (Chang et al. 2022, arXiv 2110.01900).

    --upstream distilhubert:checkpoint=PATH

Layer 0 is the projected output of the convolutions, which this model does not normalise first, without positional
convolution; then comes what each layer gives, then the predictions of the teacher's layers (4, 8 and 12 in the official
one): the list of s3prl's wrapper (s3prl/upstream/distiller/expert.py). Waves are not normalised.
Taps: `predictions` (what the heads say of the teacher's layers); `layers`: the list without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superbench_upstreams.options import EncoderOptions, encoder_spec

if TYPE_CHECKING:
    from superbench_upstreams.frozen import FrozenEncoder


def load(options: EncoderOptions, device: str) -> FrozenEncoder:
    """Load a DistilHuBERT checkpoint (s3prl's Distiller, or our own format) on `device`, frozen."""
    from superbench_upstreams.distilled import Distilled
    from superbench_upstreams.frozen import open_method

    return open_method(Distilled, "distilhubert", options, device)


SPEC = encoder_spec(
    "distilhubert", load, "DistilHuBERT: a small student that predicts a teacher's layers", room="distilled"
)
