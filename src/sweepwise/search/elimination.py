"""Which of several settings are surely worse than the best, looked at again and again as seeds are added.

Settings are compared with the best so far, seed by seed. Three things keep the chance low that one is dropped
wrongly, over all looks and all settings:

- the level of a look: up to n seeds alpha n^2 / (n^2 + 100) is spent, so all looks together spend alpha at
  most, however many there will be: little with few seeds, most at about 10; a race may be prolonged;
- the price of the choice: the best was chosen by the values that are compared, as in an answer
  (`statistics.selection.chosen_p`), among the settings that are left;
- variances: with three seeds that of a pair is hardly known, so it is shrunk towards those of all settings,
  as far as these agree; a setting that varies more than they let expect is taken alone.

Sources: Lan and DeMets, Discrete Sequential Boundaries for Clinical Trials, Biometrika 70 (1983); Smyth,
Linear Models and Empirical Bayes Methods for Assessing Differential Expression in Microarray Experiments,
Statistical Applications in Genetics and Molecular Biology 3 (2004), section 6.2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from sweepwise.errors import UsageError
from sweepwise.results.statistics.selection import chosen_level, chosen_p
from sweepwise.search.shrinkage import Floats, of_pairs

ALPHA = 0.03  # of 0.05; the rest is for values that are not normal, whose tails are not those of t
HALF = 10  # seeds up to which half of it is spent
WINS = 0.95  # standard deviations of a run that do not matter: the better one wins 3 of 4 pairs of runs


@dataclass(frozen=True)
class Look:
    """What is known of settings after some seeds.

    Attributes:
        best: place of the setting with the best mean.
        behind: by how much the mean of each is worse than that of the best, >= 0.
        errors: standard error of each of these differences.
        df: degrees of freedom of each standard error.
        level: of the look.
        p: of each, for 'the best is better than this one', of all comparisons together; where it is above the
            level for this one alone, that.
        deviation: of a run, within a setting.
    """

    best: int
    behind: Floats
    errors: Floats
    df: Floats
    level: float
    p: Floats
    deviation: float

    @property
    def dropped(self) -> NDArray[np.bool_]:
        """Which settings are surely worse than the best."""
        return self.p <= self.level

    def left(self) -> Look:
        """The same without those that are dropped."""
        kept = ~self.dropped
        best = int(np.flatnonzero(np.flatnonzero(kept) == self.best)[0])
        return replace(
            self,
            best=best,
            behind=self.behind[kept],
            errors=self.errors[kept],
            df=self.df[kept],
            p=self.p[kept],
        )

    def equivalent(self, margin: float | None) -> bool:
        """Whether the best is surely worse than no other by the margin or more.

        Args:
            margin: in the metric's unit; None: `WINS` deviations of a run.
        """
        limit = WINS * self.deviation if margin is None else margin
        others = np.arange(len(self.behind)) != self.best
        if (self.behind[others] >= limit).any() and limit > 0:
            return False
        one_sided = chosen_level(self.df, max(len(self.behind), 2), self.level) / 2
        reach = (self.behind - stdtrit(self.df, one_sided) * self.errors)[others]
        return bool(((reach < limit) | (reach == 0)).all())


def looks(first: int, most: int) -> list[int]:
    """The numbers of seeds at which it is looked, each about a third more than the one before.

    Args:
        first: at the first look, >= 1.
        most: at the last, >= 1.

    Example:
        >>> looks(3, 20)
        [3, 4, 5, 6, 8, 10, 13, 17, 20]
    """
    numbers = [min(first, most)]
    while numbers[-1] < most:
        numbers.append(min(most, numbers[-1] + max(1, numbers[-1] // 3)))
    return numbers


def spent(seeds: int) -> float:
    """The share of the error that looks at up to so many seeds spend together, in [0, 1).

    Args:
        seeds: >= 0.

    Example:
        >>> spent(0), spent(10)
        (0.0, 0.5)
    """
    return seeds**2 / (seeds**2 + HALF**2)


def look(values: Floats, before: int, others: Floats | None = None, others_df: Floats | None = None) -> Look:
    """Compares settings after some seeds.

    Args:
        values: (settings, seeds), finite, lower is better; at least two settings and two seeds.
        before: seeds at the look before; 0: this is the first.
        others: variances of settings that were dropped before, see `variances`; what all agree on is learned
            from these too.
        others_df: degrees of freedom of each.
    """
    if values.ndim != 2 or min(values.shape) < 2 or not np.isfinite(values).all():
        raise UsageError([f"values {values.shape}: must be finite, of at least two settings and two seeds"])
    settings, seeds = values.shape
    means = values.mean(axis=1)
    best = int(means.argmin())
    behind = means - means[best]
    variance, df = of_pairs(values, best, others, others_df)
    errors = np.sqrt(variance / seeds)
    level = ALPHA * (spent(seeds) - spent(before))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(behind > 0, behind / errors, 0.0)
    p = 2 * stdtr(df, -t)
    clear = p <= level  # the price of the choice only adds to it
    p[clear] = chosen_p(t[clear], df[clear], settings)
    deviation = float(np.sqrt(values.var(axis=1, ddof=1).mean()))
    return Look(best, behind, errors, df, level, p, deviation)
