"""The difference between two settings: by pairs of replicates, or Welch's where they share none."""

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from sweepwise.errors import UsageError
from sweepwise.results.statistics.crossed import averaged, factors
from sweepwise.results.statistics.estimate import (
    CONFIDENCE,
    check_confidence,
    checked,
    half_width,
    moments,
    two_sided_p,
)

Replicates = Mapping[Any, float]  # by replicate, such as its seed
SQRT_2 = math.sqrt(2)


@dataclass(frozen=True)
class Difference:
    """The mean of a minus the mean of b, and how sure it is.

    Attributes:
        mean: a - b, in the metric's unit.
        low: lower end of the interval.
        high: upper end.
        p: two-sided p value of this comparison alone; 0 only where `exact`.
        n_a: replicates of a that were used.
        n_b: of b.
        df: degrees of freedom, 0 where there are too few replicates for an interval (which then is infinite).
        standard_error: of `mean`; 0 where `exact`, inf where df is 0.
        how: 'paired' (by replicate) or 'welch'.
        deviation_a: standard deviation between the replicates of a; NaN for one.
        deviation_b: of b.
        level: the share of cases in which this interval alone may err, in (0, 1).
        adjusted: p value in its family of comparisons; `p` where it is alone.
        correlation: of the pairs; None where not paired or a column is constant.
        gain: width of this interval over that of Welch's for the same values; None where not paired or exact.
        exact: the difference is the same in all replicates, so there is nothing to be unsure of.
        left_out: replicates that only one of the two has, and that pairs cannot use.
        counted: values of one of several crossed factors were counted, not runs.
    """

    mean: float
    low: float
    high: float
    p: float
    n_a: int
    n_b: int
    df: float
    standard_error: float
    how: Literal["paired", "welch"]
    deviation_a: float
    deviation_b: float
    level: float
    adjusted: float
    correlation: float | None = None
    gain: float | None = None
    exact: bool = False
    left_out: int = 0
    counted: bool = False

    @property
    def t(self) -> float:
        """The size of the difference over its standard error, >= 0; inf where a difference is exact."""
        if self.mean == 0:
            return 0.0
        return abs(self.mean) / self.standard_error if self.standard_error else math.inf

    @property
    def deviation(self) -> float:
        """Standard deviation of one replicate: of a pair's difference where paired, else of one run."""
        if self.how == "paired":
            return self.standard_error * math.sqrt(self.n_a)
        return self.run_deviation

    @property
    def run_deviation(self) -> float:
        """Standard deviation between runs of a setting, root mean square of both; NaN for one run each."""
        known = [value for value in (self.deviation_a, self.deviation_b) if not math.isnan(value)]
        return math.hypot(*known) / math.sqrt(len(known)) if known else math.nan


def reversed_difference(found: Difference) -> Difference:
    """The same of b minus a."""
    return replace(
        found,
        mean=-found.mean,
        low=-found.high,
        high=-found.low,
        n_a=found.n_b,
        n_b=found.n_a,
        deviation_a=found.deviation_b,
        deviation_b=found.deviation_a,
    )


def difference(
    a: Replicates, b: Replicates, confidence: float = CONFIDENCE, *, resolution: float = 0.0
) -> Difference:
    """The difference of two settings: paired where two or more replicates are shared, else Welch's.

    The design decides, not the values: choosing by the correlation that was seen would favour what is narrow
    by chance. Replicates that one setting lacks are left out of the pairs and counted. Of replicates of
    several factors (tuples) the values of one factor are counted, not the runs; see `crossed`.

    Args:
        a: replicate -> value, such as seed -> validation accuracy; finite.
        b: the same of the other setting.
        confidence: of the interval, in (0, 1).
        resolution: step in which the metric moves (`resolution`), 0 for none.

    Example:
        >>> found = difference({0: 0.90, 1: 0.92, 2: 0.91}, {0: 0.88, 1: 0.91, 2: 0.89, 3: 0.95})
        >>> found.how, found.n_a, found.left_out, round(found.mean, 4)
        ('paired', 3, 1, 0.0167)
    """
    shared = [replicate for replicate in a if replicate in b]
    if places := factors([a, b]):
        both = [a, b] if len(shared) < 2 else [{key: one[key] for key in shared} for one in (a, b)]
        counted = [averaged(one, place) for place in places for one in both]
        pairs = zip(counted[::2], counted[1::2], strict=True)
        found = [difference(first, second, confidence, resolution=resolution) for first, second in pairs]
        return replace(max(found, key=lambda one: (one.high - one.low, one.p)), counted=True)
    if len(shared) < 2:
        return welch(list(a.values()), list(b.values()), confidence, resolution=resolution)
    left_out = len(a) + len(b) - 2 * len(shared)
    return paired(
        [a[key] for key in shared],
        [b[key] for key in shared],
        confidence,
        resolution=resolution,
        left_out=left_out,
    )


def paired(
    a: Iterable[float],
    b: Iterable[float],
    confidence: float = CONFIDENCE,
    *,
    resolution: float = 0.0,
    left_out: int = 0,
) -> Difference:
    """Student's t of the differences within pairs.

    Args:
        a: (n,), n >= 1, finite.
        b: (n,), in the order of a.
        confidence: of the interval, in (0, 1).
        resolution: step in which the metric moves, 0 for none; see `resolution`.
        left_out: replicates without a partner, to be told.

    Source: Student, The Probable Error of a Mean, Biometrika 6 (1908).
    """
    first, second = checked(a, "a"), checked(b, "b")
    n = len(first)
    if n != len(second):
        raise UsageError([f"{n} and {len(second)} values: pairs need the same number of both"])
    mean, deviation = moments(_minus(first, second))
    error = _floored(deviation, resolution * SQRT_2) / math.sqrt(n)
    columns = _Columns.of(first, second)
    found = _difference(mean, error, n - 1, columns, "paired", confidence)
    other_error, other_df = columns.welch(resolution)
    if found.exact or n < 2 or other_error == 0:
        return replace(found, left_out=left_out)
    gain = half_width(error, n - 1, 0.05) / half_width(other_error, other_df, 0.05)
    return replace(found, left_out=left_out, gain=gain, correlation=columns.correlation(deviation))


def welch(
    a: Iterable[float],
    b: Iterable[float],
    confidence: float = CONFIDENCE,
    *,
    resolution: float = 0.0,
) -> Difference:
    """Welch's t of two independent samples of unequal variances.

    Args:
        a: (n_a,), n_a >= 1, finite; with one value in either the interval is infinite.
        b: (n_b,).
        confidence: of the interval, in (0, 1).
        resolution: step in which the metric moves, 0 for none; see `resolution`.

    Source: Welch, The Generalization of 'Student's' Problem when Several Different Population Variances
    are Involved, Biometrika 34 (1947).
    """
    columns = _Columns.of(checked(a, "a"), checked(b, "b"))
    error, df = columns.welch(resolution)
    return _difference(columns.mean_a - columns.mean_b, error, df, columns, "welch", confidence)


def satterthwaite(error_a: float, error_b: float, n_a: int, n_b: int) -> float:
    """Degrees of freedom of a - b from the standard errors of both means; n_a + n_b - 2 where both are 0.

    Source: Satterthwaite, An Approximate Distribution of Estimates of Variance Components, Biometrics 2
    (1946).
    """
    largest = max(error_a, error_b)
    if largest == 0:
        return n_a + n_b - 2
    square_a, square_b = (error_a / largest) ** 2, (error_b / largest) ** 2
    return (square_a + square_b) ** 2 / (square_a**2 / (n_a - 1) + square_b**2 / (n_b - 1))


def resolution(values: Iterable[float]) -> float:
    """The step in which a metric moves: all values lie that far apart, or a multiple of it; 0 for none.

    An accuracy over 50 examples moves in steps of 0.02, so three runs that are equal in it need not be equal.
    No standard deviation is believed below that of rounding to such a step, step / sqrt(12). Values of a loss
    lie on no common step, and nothing is changed for them.

    Args:
        values: of all runs that are compared with each other, finite.

    Source: Sheppard, On the Calculation of the most Probable Values of Frequency-Constants for Data arranged
    according to Equidistant Divisions of a Scale, Proceedings of the London Mathematical Society 29 (1898).

    Example:
        >>> round(resolution([0.90, 0.94, 0.92, 0.92]), 6), resolution([0.901, 0.94227, 0.9233])
        (0.02, 0.0)
    """
    known = np.unique(np.asarray(list(values), float))
    gaps = np.diff(known)
    rounding = 1e-6 * np.abs(known).max(
        initial=0.0
    )  # a float32's; equal values may have been summed differently
    gaps = gaps[gaps > rounding]
    if not len(gaps):
        return 0.0
    step = float(gaps.min())
    multiples = gaps / step
    on_steps = np.abs(multiples - np.rint(multiples)) <= 4 * rounding / step * multiples + 1e-6
    return step if bool(on_steps.all()) else 0.0


@dataclass(frozen=True)
class _Columns:
    """Size, mean and deviation of both columns."""

    n_a: int
    n_b: int
    mean_a: float
    mean_b: float
    deviation_a: float
    deviation_b: float

    @classmethod
    def of(cls, first: list[float], second: list[float]) -> "_Columns":
        (mean_a, deviation_a), (mean_b, deviation_b) = moments(first), moments(second)
        return cls(len(first), len(second), mean_a, mean_b, deviation_a, deviation_b)

    def welch(self, resolution: float) -> tuple[float, float]:
        """Standard error and degrees of freedom of a - b as independent samples; both 0 for one value."""
        if min(self.n_a, self.n_b) < 2:
            return 0.0, 0.0
        error_a = _floored(self.deviation_a, resolution) / math.sqrt(self.n_a)
        error_b = _floored(self.deviation_b, resolution) / math.sqrt(self.n_b)
        return math.hypot(error_a, error_b), satterthwaite(error_a, error_b, self.n_a, self.n_b)

    def correlation(self, deviation: float) -> float | None:
        """Of pairs whose differences have this deviation: var(a - b) = var a + var b - 2 r sd a sd b."""
        largest = max(self.deviation_a, self.deviation_b)
        if largest == 0:
            return None
        one, two, both = self.deviation_a / largest, self.deviation_b / largest, deviation / largest
        if min(one, two) < 1e-9 or self.n_a < 3:
            return None
        return min(max((one**2 + two**2 - both**2) / (2 * one * two), -1.0), 1.0)


def _difference(
    mean: float,
    error: float,
    df: float,
    columns: _Columns,
    how: Literal["paired", "welch"],
    confidence: float,
) -> Difference:
    """A difference from its standard error; with df = 0 there is none, and the interval is infinite."""
    check_confidence(confidence)
    exact = df > 0 and error == 0
    half, p = math.inf, 1.0
    if exact:
        half, p = 0.0, float(mean == 0)
    elif df > 0:
        half, p = half_width(error, df, 1 - confidence), two_sided_p(mean / error, df)
    return Difference(
        mean=mean,
        low=mean - half,
        high=mean + half,
        p=p,
        n_a=columns.n_a,
        n_b=columns.n_b,
        df=df,
        standard_error=error if df > 0 else math.inf,
        how=how,
        deviation_a=columns.deviation_a,
        deviation_b=columns.deviation_b,
        level=1 - confidence,
        adjusted=p,
        exact=exact,
    )


def _minus(first: list[float], second: list[float]) -> list[float]:
    """The differences; where they differ by rounding alone they are made equal."""
    differences = [one - two for one, two in zip(first, second, strict=True)]
    rounding = 4 * sys.float_info.epsilon * max(map(abs, [*first, *second]))
    if max(differences) - min(differences) > rounding:
        return differences
    middle = math.fsum(differences) / len(differences)
    return [middle if abs(middle) > rounding else 0.0] * len(differences)


def _floored(deviation: float, step: float) -> float:
    """A standard deviation, but not below that of rounding to the step, which is step / sqrt(12)."""
    return max(deviation, step / math.sqrt(12))
