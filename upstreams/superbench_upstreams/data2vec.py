"""`data2vec`: data2vec for audio, prediction of a teacher's averaged layers (Baevski et al. 2022, arXiv 2202.03555).

    --upstream data2vec:checkpoint=PATH_OR_HUB_NAME

Layer 0 is the transformer's input, after the positional convolution (and, in a post-LN encoder, its normalisation);
then comes the output of each layer, the last one after the encoder's final norm: the list of s3prl's wrapper.
Checkpoints: fairseq (audio_base_ls.pt, vox_pretrained.pt), s3prl-converted, transformers.
The features are the student's; the teacher that a checkpoint carries (its moving average) is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superbench_upstreams.options import EncoderOptions, encoder_spec

if TYPE_CHECKING:
    from superbench_upstreams.frozen import FrozenEncoder


def load(options: EncoderOptions, device: str) -> FrozenEncoder:
    """Load a data2vec for audio checkpoint of any format on `device`, frozen."""
    from superbench_upstreams.frozen import Method, open_method

    return open_method(Method, "data2vec", options, device)


SPEC = encoder_spec("data2vec", load, "data2vec for audio, from its official files, s3prl's, transformers' or our own")
