"""`wav2vec2`: wav2vec 2.0, contrastive prediction of quantised speech (Baevski et al. 2020, arXiv 2006.11477).

    --upstream wav2vec2:checkpoint=PATH_OR_HUB_NAME

Layer 0 is the transformer's input, after the positional convolution (and, in a post-LN encoder, its normalisation);
then comes the output of each layer, the last one after the encoder's final norm: the list of s3prl's wrapper.
Checkpoints: fairseq (wav2vec_small.pt, libri960_big.pt, wav2vec_vox_new.pt, xlsr_53_56k.pt), s3prl-converted, and
transformers.
Extra weights of training (the quantiser and its projections) are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superbench_upstreams.options import EncoderOptions, encoder_spec

if TYPE_CHECKING:
    from superbench_upstreams.frozen import FrozenEncoder


def load(options: EncoderOptions, device: str) -> FrozenEncoder:
    """Load a wav2vec 2.0 checkpoint of any format on `device`, frozen."""
    from superbench_upstreams.frozen import Method, open_method

    return open_method(Method, "wav2vec2", options, device)


SPEC = encoder_spec("wav2vec2", load, "wav2vec 2.0, from its official files, s3prl's, transformers' or our own")
