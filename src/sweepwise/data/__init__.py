"""Data sets, and how they are split, scaled, ordered and batched."""

from sweepwise.data.dataset import Arrays, Data
from sweepwise.data.part import Part
from sweepwise.data.splitting import split

__all__ = ["Arrays", "Data", "Part", "split"]
