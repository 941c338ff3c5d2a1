"""Checkpoints: folders with checksums, from which a run resumes to the bit."""

from sweepwise.checkpoint.checkpoints import Checkpoints, CheckpointsDamaged
from sweepwise.checkpoint.contents import Saved, read_weights

__all__ = ["Checkpoints", "CheckpointsDamaged", "Saved", "read_weights"]
