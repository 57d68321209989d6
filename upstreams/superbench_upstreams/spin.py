"""`spin`: Spin, speaker-invariant clustering of HuBERT or WavLM (Chang et al. 2023, arXiv 2305.11072).

    --upstream spin:checkpoint=spin_hubert_256.ckpt[,base=CHECKPOINT]

Layer 0 is the projected output of the convolutions, without positional convolution or normalisation; then comes what
each layer gives: the list of the official wrapper (vectominist/spin, s3prl_py/spin/expert.py, `feat_select="hidden"`).
The official file says HuBERT or WavLM and no more: its encoder is that base model, or that of `base=CHECKPOINT`.
Taps: `disentangled` (the head's output, of length 1), `logits` (over the temperature), `probabilities`, `codes`. The
codebook is as the file has it; the wrapper makes its rows of length 1 again, from which they are one step away.
Official files: the data set vectominist/spin_ckpt on the hub, `hf://datasets/vectominist/spin_ckpt/FILE`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superbench_upstreams.options import BasedOptions, encoder_spec

if TYPE_CHECKING:
    from superbench_upstreams.frozen import FrozenEncoder


def load(options: BasedOptions, device: str) -> FrozenEncoder:
    """Load a Spin checkpoint (Lightning's, or our own format) on `device`, frozen."""
    from superbench_upstreams.frozen import open_method
    from superbench_upstreams.quantised import Quantised

    return open_method(Quantised, "spin", options, device, base=options.base)


SPEC = encoder_spec("spin", load, "Spin: HuBERT or WavLM with speaker-invariant codes", BasedOptions, room="quantised")
