"""Checkpoints: whole folders with checksums, from which a run continues to the bit."""

from sweepwise.checkpoint.checkpoints import Checkpoints, Damaged, Saved

__all__ = ["Checkpoints", "Damaged", "Saved"]
