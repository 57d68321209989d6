"""`wavlm`: WavLM, masked prediction from mixed speech, gated relative positions (Chen et al. 2022, arXiv 2110.13900).

    --upstream wavlm:checkpoint=PATH_OR_HUB_NAME

Layer 0 is the transformer's input, after the positional convolution (and, in a post-LN encoder, its normalisation);
then comes the output of each layer, the last one after the encoder's final norm: the list of s3prl's wrapper.
Checkpoints: unilm's (WavLM-Base.pt, WavLM-Base+.pt, WavLM-Large.pt), which s3prl uses as they are, and transformers'.
Memory grows with the square of the length, by its bias of positions: some 3.5 GB for two minutes.
WavLM Large's last layer is normalised here, as in s3prl; unilm's own README lists it as it leaves the layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superbench_upstreams.options import EncoderOptions, encoder_spec

if TYPE_CHECKING:
    from superbench_upstreams.frozen import FrozenEncoder


def load(options: EncoderOptions, device: str) -> FrozenEncoder:
    """Load a WavLM checkpoint of any format on `device`, frozen."""
    from superbench_upstreams.frozen import Method, open_method

    return open_method(Method, "wavlm", options, device)


SPEC = encoder_spec("wavlm", load, "WavLM, from its official files, s3prl's, transformers' or our own")
