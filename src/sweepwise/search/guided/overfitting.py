"""Whether trainings follow their own examples more than others."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from sweepwise.search.strategy import Result


@dataclass(frozen=True)
class Fit:
    """How far trainings follow their own examples and no others; None where it is not known.

    Attributes:
        gap: by how much validation is worse than training, at the weights that are kept.
        after_best: by how much validation is worse at the end than at its best. Where labels are noisy, or
            training is disturbed, there may be no gap at the weights that are kept, but this.
    """

    gap: float | None
    after_best: float | None

    def is_close(self, noise: float) -> bool:
        """Whether there is nothing to regularise: no more of either than runs differ by."""
        known = [one for one in (self.gap, self.after_best) if one is not None]
        return self.gap is not None and all(one <= noise for one in known)

    def words(self, noise: float | None) -> str:
        """What was seen."""
        if self.gap is None:
            return "the gap between training and validation is not known"
        differ = f", where runs differ by {noise:.2g}" if noise is not None else ""
        after = self.after_best or 0.0
        later = f", and at the end worse than its best by {after:.2g}" if after > (noise or 0.0) else ""
        than = f"{'worse' if self.gap >= 0 else 'better'} than training by {abs(self.gap):.2g}"
        return f"validation is {than}{later}{differ}"


def fit(results: Sequence[Result], sign: int) -> Fit:
    """The means over runs that have come to their end."""
    valued = [(one, one.value) for one in results if one.value is not None]
    gaps = [sign * (value - one.train) for one, value in valued if one.train is not None]
    after = [sign * (one.curve[max(one.curve)] - value) for one, value in valued if one.curve]
    gap, after_best = (statistics.fmean(found) if found else None for found in (gaps, after))
    return Fit(gap, after_best)
