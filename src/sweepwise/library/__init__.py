"""Builds and fits the parts of a run without a config, from a script or a notebook."""

from sweepwise.library.building import build
from sweepwise.library.fitted import Fitted
from sweepwise.library.fitting import fit

__all__ = ["Fitted", "build", "fit"]
