"""Sweepwise: composable, repeatable sweeps over the five techniques of tuning a neural network."""

__version__ = "0.1.0"
