"""What takes the steps of a run, or of many runs at once; the trainer knows the contract alone."""

from sweepwise.learner.contract import Learner, Parallel, Precision, Watch, Watched

__all__ = ["Learner", "Parallel", "Precision", "Watch", "Watched"]
