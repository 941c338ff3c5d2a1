"""The learners, which take the training steps of one or many runs; the trainer knows only their contract."""

from sweepwise.learner.contract import Learner, Parallel, Precision, Watch, Watched

__all__ = ["Learner", "Parallel", "Precision", "Watch", "Watched"]
