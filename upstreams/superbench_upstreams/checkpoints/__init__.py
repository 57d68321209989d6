"""Checkpoints of speech encoders as their makers published them, and our own: read safely, checked weight by weight."""

from __future__ import annotations

from superbench_upstreams.checkpoints.checkpoint import Checkpoint
from superbench_upstreams.checkpoints.reading import read_checkpoint, write_checkpoint

__all__ = ["Checkpoint", "read_checkpoint", "write_checkpoint"]
