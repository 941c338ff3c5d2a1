"""Optimizers of torch over one flat row of parameters."""

from sweepwise.optimizer.flat import FlatOptimizer

__all__ = ["FlatOptimizer"]
