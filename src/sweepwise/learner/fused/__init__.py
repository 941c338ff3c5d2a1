"""Many runs trained as one program, with their parameters stacked in one buffer."""

from sweepwise.learner.fused.alone import alone
from sweepwise.learner.fused.learner import FusedLearner
from sweepwise.learner.fused.purity import Unfusable

__all__ = ["FusedLearner", "Unfusable", "alone"]
