"""What the heads are called, and the options they take; torch is loaded when one is built."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from superbench.plugin import DownstreamSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LinearOptions:
    """The projector of 256 is that of SUPERB's SID, ER, KS and PR (s3prl ec8064b, their config.yaml)."""

    projector: int = 256  # width of the first linear layer

    def __post_init__(self) -> None:
        if self.projector < 1:
            raise ValueError(f"projector must be at least 1, got {self.projector}")


@dataclass(frozen=True)
class BlstmOptions:
    """The sizes are those of SUPERB's ASR (s3prl ec8064b, downstream/asr/config.yaml)."""

    projector: int = 1024  # width of the first linear layer
    hidden: int = 1024  # per direction
    layers: int = 2
    dropout: float = 0.2  # after each recurrent layer

    def __post_init__(self) -> None:
        if min(self.projector, self.hidden, self.layers) < 1:
            raise ValueError("projector, hidden and layers must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")


def build_linear(options: LinearOptions, width: int, classes: int) -> nn.Module:
    """Build a linear head for features of `width`."""
    from superbench_downstreams.linear import LinearHead

    return LinearHead(width, classes, **asdict(options))


def build_blstm(options: BlstmOptions, width: int, classes: int) -> nn.Module:
    """Build a recurrent head for features of `width`."""
    from superbench_downstreams.blstm import BlstmHead

    return BlstmHead(width, classes, **asdict(options))


SPECS = (
    DownstreamSpec(
        name="pooled_linear",
        build=build_linear,
        reads="pooled",
        options=LinearOptions,
        summary="Linear, mean over time, Linear: SID, ER, KS",
    ),
    DownstreamSpec(
        name="frame_linear",
        build=build_linear,
        reads="frames",
        gives="frames",
        options=LinearOptions,
        summary="Linear, Linear on every frame: PR",
    ),
    DownstreamSpec(
        name="blstm",
        build=build_blstm,
        reads="frames",
        gives="frames",
        options=BlstmOptions,
        summary="Linear, bidirectional LSTMs, Linear on every frame: ASR",
    ),
)
