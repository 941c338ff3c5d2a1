"""The training loop over one or many runs, its settings, and the protocols of monitor and checkpoints."""

from sweepwise.trainer.loop import fit
from sweepwise.trainer.run import Run
from sweepwise.trainer.settings import Settings

__all__ = ["Run", "Settings", "fit"]
