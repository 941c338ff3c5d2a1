"""Critique of a search space: what its results say of the space itself."""

from sweepwise.results.critique.finding import Finding, as_content, passages
from sweepwise.results.critique.review import critique

__all__ = ["Finding", "as_content", "critique", "passages"]
