"""`hubert`: HuBERT, masked prediction of clustered units (Hsu et al. 2021, arXiv 2106.07447).

    --upstream hubert:checkpoint=PATH_OR_HUB_NAME

Layer 0 is the transformer's input, after the positional convolution (and, in a post-LN encoder, its normalisation);
then comes the output of each layer, the last one after the encoder's final norm: the list of s3prl's wrapper.
Checkpoints: fairseq (hubert_base_ls960.pt and larger), s3prl-converted, transformers.
Extra weights of training (label embeddings, the final projection) are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superbench_upstreams.options import EncoderOptions, encoder_spec

if TYPE_CHECKING:
    from superbench_upstreams.frozen import FrozenEncoder


def load(options: EncoderOptions, device: str) -> FrozenEncoder:
    """Load a HuBERT checkpoint of any format on `device`, frozen."""
    from superbench_upstreams.frozen import Method, open_method

    return open_method(Method, "hubert", options, device)


SPEC = encoder_spec("hubert", load, "HuBERT, from its official files, s3prl's, transformers' or our own")
