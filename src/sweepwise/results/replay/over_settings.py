"""Means over all runs of a sweep, a setting counting once, and their intervals over replicates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from sweepwise.results.statistics.crossed import factors
from sweepwise.results.statistics.estimate import CONFIDENCE, half_width
from sweepwise.results.table import Values


@dataclass(frozen=True)
class Mean:
    """A mean and how sure it is.

    Attributes:
        mean: of the settings' means.
        low: lower end of the interval; -inf where no setting was repeated.
        high: upper end; inf there.
        standard_error: of `mean`; inf there.
        df: degrees of freedom; 0 there.
        n: runs.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    df: float
    n: int


@dataclass(frozen=True)
class Means:
    """The mean of each setting: arrays (settings,), NaN for a setting without a run.

    Attributes:
        mean: of its runs.
        low: lower end of Student's interval; -inf for one replicate.
        high: upper end; inf for one.
        n: runs.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n: NDArray[np.int64]

    def of(self, setting: int) -> Mean:
        """That of one setting, by its number; its standard error is not kept."""
        mean, low, high = (float(part[setting]) for part in (self.mean, self.low, self.high))
        return Mean(mean, low, high, math.nan, math.nan, int(self.n[setting]))


@dataclass(frozen=True)
class Layout:
    """Which setting each run has, and which of them share a replicate.

    Attributes:
        setting: (runs,) number of its setting.
        settings: how many there are.
        replicates: arrays (runs,), one a factor that is counted: number of the replicate.
    """

    setting: NDArray[np.int64]
    settings: int
    replicates: tuple[NDArray[np.int64], ...]


def layout(settings: Sequence[Values], replicates: Sequence[Values]) -> Layout:
    """The layout of runs from their settings and replicates.

    Of replicates of several crossed factors the values of each factor are counted; see `crossed`.
    """
    known, setting = _numbered(settings)
    places = factors([dict.fromkeys(replicates, 0.0)])
    columns = [[replicate[place] for replicate in replicates] for place in places] or [list(replicates)]
    return Layout(setting, len(known), tuple(_numbered(column)[1] for column in columns))


def over_settings(values: ArrayLike, runs: Layout, confidence: float = CONFIDENCE) -> tuple[Mean, Means]:
    """The mean over settings with its interval over replicates, and that of each setting.

    Settings are fixed and count alike; replicates are drawn, and those of one seed in several settings are
    not independent. So residuals from the settings' means are summed up for each replicate, and the variance
    of the mean is the sum of their squares, with the correction that makes it unbiased. In a whole grid
    that is Student's t of the replicates' means over all settings. Degrees of freedom: among settings that
    share replicates the harmonic mean of replicates a setting, less 1; of groups of settings that share none
    Satterthwaite's. A setting that was run once scatters as the others do on average.

    Args:
        values: (runs,), NaN where a run has none.
        runs: their layout.
        confidence: of each interval, in (0, 1).

    Source: Bell and McCaffrey, Bias Reduction in Standard Errors for Linear Regression with Multi-Stage
    Samples, Survey Methodology 28 (2002); Satterthwaite, An Approximate Distribution of Estimates of Variance
    Components, Biometrics 2 (1946).

    Example:
        >>> runs = layout([("a",), ("a",), ("b",), ("b",)], [(0,), (1,), (0,), (1,)])
        >>> overall, each = over_settings([1.0, 2.0, 3.0, 6.0], runs)
        >>> overall.mean, round(overall.standard_error, 6), overall.df, each.mean.tolist()
        (3.0, 1.0, 1.0, [1.5, 4.5])
    """
    known = np.asarray(values, float)
    use = ~np.isnan(known)
    setting, found = runs.setting[use], known[use]
    n = np.bincount(setting, minlength=runs.settings)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(setting, found, runs.settings) / n
    spreads = [_spread(found, setting, column[use], runs.settings) for column in runs.replicates]
    half = np.zeros(runs.settings)
    for one in spreads:
        half = np.fmax(half, one.half_widths(1 - confidence))
    overall = float(mean[n > 0].mean()) if len(found) else math.nan
    errors = [one.overall() for one in spreads]
    halves = [half_width(error, df, 1 - confidence) if df > 0 else math.inf for error, df in errors]
    widest = max(range(len(halves)), key=lambda place: halves[place])
    error, df = errors[widest]
    whole = Mean(overall, overall - halves[widest], overall + halves[widest], error, df, len(found))
    return whole, Means(mean, mean - half, mean + half, n)


def usual_deviation(values: ArrayLike, runs: Layout) -> float:
    """Standard deviation between the runs of a setting: the median over settings whose runs differ.

    Settings near divergence scatter a hundred times as much as others, and would decide any mean.

    Returns:
        NaN if no setting has runs that differ.
    """
    known = np.asarray(values, float)
    use = ~np.isnan(known)
    setting, found = runs.setting[use], known[use]
    n = np.bincount(setting, minlength=runs.settings)
    mean = np.bincount(setting, found, runs.settings) / np.maximum(n, 1)
    squares = np.bincount(setting, (found - mean[setting]) ** 2, runs.settings)
    deviations = np.sqrt(squares / np.maximum(n - 1, 1))
    differ = deviations[deviations > 4 * np.finfo(float).eps * np.abs(mean)]
    return float(np.median(differ)) if len(differ) else math.nan


@dataclass(frozen=True)
class _Spread:
    """How the replicates of one factor scatter about the means of their settings.

    Attributes:
        n: (settings,) replicates.
        squares: (settings,) sums of squared residuals.
        summed: (replicates,) weighted residuals over all settings.
        group: (settings,) number of the group of settings that share replicates, also in several steps.
        group_of: (replicates,) the same of each replicate; -1 for one without a run.
    """

    n: NDArray[np.int64]
    squares: NDArray[np.float64]
    summed: NDArray[np.float64]
    group: NDArray[np.int64]
    group_of: NDArray[np.int64]

    def half_widths(self, level: float) -> NDArray[np.float64]:
        """Half of each setting's interval; inf for one replicate."""
        df = np.maximum(self.n - 1, 1)
        half = stdtrit(df, 1 - level / 2) * np.sqrt(self.squares / df / np.maximum(self.n, 1))
        return np.where(self.n > 1, half, math.inf)

    def overall(self) -> tuple[float, float]:
        """Standard error of the mean over settings, and its degrees of freedom; inf and 0 without any."""
        n = self.n[self.n > 0]
        if not (n > 1).any():
            return math.inf, 0.0
        once = int((n == 1).sum())
        pooled = float(self.squares.sum()) / float((n - 1).sum())
        variance = float((self.summed**2).sum()) + pooled * once / len(n) ** 2
        return math.sqrt(variance), self._df()

    def _df(self) -> float:
        """Satterthwaite's, of the groups of settings that have replicates to scatter."""
        squares, dfs = [], []
        for group in np.unique(self.group[self.n > 1]):
            n = self.n[(self.group == group) & (self.n > 0)]
            dfs.append(len(n) / float((1 / n).sum()) - 1)
            squares.append(float((self.summed[self.group_of == group] ** 2).sum()))
        largest = max(squares)
        if largest == 0:
            return sum(dfs)
        shares = [square / largest for square in squares]
        return sum(shares) ** 2 / sum(share**2 / df for share, df in zip(shares, dfs, strict=True))


def _spread(
    values: NDArray[np.float64], setting: NDArray[np.int64], replicate: NDArray[np.int64], settings: int
) -> _Spread:
    """The scatter, of the means of runs that share setting and replicate."""
    width = int(replicate.max(initial=0)) + 1
    cells, place = np.unique(setting * width + replicate, return_inverse=True)
    mean = np.bincount(place, values, len(cells)) / np.bincount(place, minlength=len(cells))
    setting, replicate = cells // width, cells % width
    n = np.bincount(setting, minlength=settings)
    centre = np.bincount(setting, mean, settings) / np.maximum(n, 1)
    residual = mean - centre[setting]
    residual[np.abs(residual) <= 4 * np.finfo(float).eps * np.abs(centre[setting])] = 0.0  # rounding alone
    used = max(int((n > 0).sum()), 1)
    weight = 1 / (used * np.sqrt(np.maximum(n * (n - 1), 1)))
    return _Spread(
        n,
        np.bincount(setting, residual**2, settings).astype(float),
        np.bincount(replicate, weight[setting] * residual, width).astype(float),
        *_groups(setting, replicate, settings, width),
    )


def _groups(
    setting: NDArray[np.int64], replicate: NDArray[np.int64], settings: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The groups of settings that share replicates, by the least number of a setting; of replicates too."""
    group = np.arange(settings)
    while True:
        least = np.full(width, settings)
        np.minimum.at(least, replicate, group[setting])
        merged = group.copy()
        np.minimum.at(merged, setting, least[replicate])
        if (merged == group).all():
            return group, np.where(least < settings, least, -1)
        group = merged


def _numbered(names: Sequence[object]) -> tuple[dict[object, int], NDArray[np.int64]]:
    """Names by number, in the order in which they come, and the number of each."""
    known: dict[object, int] = {}
    numbers = [known.setdefault(name, len(known)) for name in names]
    return known, np.array(numbers, dtype=np.int64)
