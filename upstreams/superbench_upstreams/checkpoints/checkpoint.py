"""What every checkpoint becomes, whatever wrote it: an encoder's configuration, its weights, and what is the method's.

extras["head.weight"] [256, 768], ["head.bias"] [256], ["codebook.weight"] [K, 256]        spin, rspin, dcspin
extras["auxiliary_head.weight"], ["auxiliary_head.bias"], ["auxiliary_codebook.weight"]    dcspin
extras["heads.0.weight"] [K, 768], ["codebooks.0"] [K, 768], ["codebook_counts.0"] [K]     dinosr
extras["teacher.layers.0.attention.query.weight"], named as the encoder names them         data2vec, dinosr
extras["outputs.0.weight"], ...                                                            distilhubert
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from superbench_upstreams.encoder import EncoderConfig

FAMILIES = ("hubert", "wav2vec2", "wavlm", "data2vec", "dinosr", "spin", "rspin", "dcspin", "distilhubert")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An encoder of the wav2vec 2.0 family, read and checked: every weight is there, of its shape, and finite."""

    family: str  # the method, one of FAMILIES
    format: str  # fairseq, s3prl, unilm, spin, rspin, transformers, distiller or superbench
    config: EncoderConfig
    weights: dict[str, Tensor]  # exactly the state dict of Encoder(config), in float32
    extras: dict[str, Tensor]  # what is the method's own
    settings: dict[str, Any]  # constants of the method, as JSON has them: {"temperature": 0.1}
