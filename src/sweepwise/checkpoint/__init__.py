"""Checkpoints: folders with checksums, from which a run resumes to the bit."""

from sweepwise.checkpoint.checkpoints import Checkpoints, CheckpointsDamaged, Saved

__all__ = ["Checkpoints", "CheckpointsDamaged", "Saved"]
