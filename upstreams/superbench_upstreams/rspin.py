"""`rspin`: R-Spin, Spin made robust to noise, on WavLM Base (Chang and Glass 2024, arXiv 2311.09117).

    --upstream rspin:checkpoint=wavlm_rspin_32-40k.pt[,config=JSON]

Layer 0 is the projected output of the convolutions, without positional convolution or normalisation; then comes what
each layer gives: the list of the official wrapper (vectominist/rspin, rspin/model.py). The encoder is WavLM Base, whose
numbers the official code holds and the file does not; another one is described by `config=JSON`.
Taps: `disentangled` (the head's output, of length 1), `logits` (there is no temperature), `probabilities`, `codes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superbench_upstreams.options import ConfiguredOptions, encoder_spec

if TYPE_CHECKING:
    from superbench_upstreams.frozen import FrozenEncoder


def load(options: ConfiguredOptions, device: str) -> FrozenEncoder:
    """Load an R-Spin checkpoint (the official one, or our own format) on `device`, frozen."""
    from superbench_upstreams.frozen import open_method
    from superbench_upstreams.quantised import Quantised

    return open_method(Quantised, "rspin", options, device, config=options.config)


SPEC = encoder_spec(
    "rspin", load, "R-Spin: WavLM with codes that withstand speakers and noise", ConfiguredOptions, room="quantised"
)
