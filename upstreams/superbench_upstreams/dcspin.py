"""`dcspin`: DC-Spin, Spin with a small primary and a large auxiliary codebook (Chang et al. 2025, arXiv 2410.24177).

    --upstream dcspin:checkpoint=FOLDER

No official code or checkpoint is public: this is our own format, as a recipe of ours or `superbench upstreams convert`
writes it, with Spin's encoder and two heads, each with its codebook. Layer 0 is the projected output of the
convolutions, as Spin has it; then comes what each layer gives.
Taps: Spin's `disentangled`, `logits`, `probabilities` and `codes`, of the primary codebook, whose codes are the tokens;
and the same of the other one, as `auxiliary_codes` and so on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superbench_upstreams.options import EncoderOptions, encoder_spec

if TYPE_CHECKING:
    from superbench_upstreams.frozen import FrozenEncoder


def load(options: EncoderOptions, device: str) -> FrozenEncoder:
    """Load a DC-Spin checkpoint on `device`, frozen."""
    from superbench_upstreams.frozen import open_method
    from superbench_upstreams.quantised import DoublyQuantised

    return open_method(DoublyQuantised, "dcspin", options, device)


SPEC = encoder_spec("dcspin", load, "DC-Spin: Spin with a primary and an auxiliary codebook", room="quantised")
