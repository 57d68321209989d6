"""`dinosr`: DinoSR, self-distillation with online clustering (Liu et al. 2023, arXiv 2305.10005).

    --upstream dinosr:checkpoint=dinosr.ckpt

Layer 0 is the transformer's input, after the positional convolutions and its norm; then comes the output of each layer
of the student: s3prl's rule for data2vec, whose encoder it has. (No official wrapper exists; spidr's
`get_intermediate_outputs` gives feed-forward outputs before the residual instead: the tap `ffn`.)

Codes at inference are assigned as the training assigns its targets, [T, K] for the K layers that have a codebook (the
top 8 of 12, the lowest first): by the *teacher* (the moving average of the student's transformer, on the same projected
features, nothing masked), from each layer's *feed-forward output before the residual*, *instance-normalised* over the
utterance's own frames (each channel to mean 0 and variance 1, eps 1e-5), to the nearest codeword by Euclidean distance.
A codeword is its running sum over its running count. An utterance is never padded here, and neither is it in training.
Taps: `codes`; `teacher` (the teacher's transformer input and layers); `logits` and `predictions`: what the student's
heads say of those codes, [T, 256] for each codebook, and the likeliest ones, [T, K].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superbench_upstreams.options import EncoderOptions, encoder_spec

if TYPE_CHECKING:
    from superbench_upstreams.frozen import FrozenEncoder


def load(options: EncoderOptions, device: str) -> FrozenEncoder:
    """Load a DinoSR checkpoint (fairseq's, or our own format) on `device`, frozen."""
    from superbench_upstreams.clustered import Clustered
    from superbench_upstreams.frozen import open_method

    return open_method(Clustered, "dinosr", options, device)


SPEC = encoder_spec("dinosr", load, "DinoSR: online clusters of a teacher's layers", room="clustered")
