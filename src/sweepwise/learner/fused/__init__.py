"""Many runs as one program: their learners side by side, stepped by stacked tensors."""

from sweepwise.learner.fused.learner import FusedLearner

__all__ = ["FusedLearner", "Unfusable"]
