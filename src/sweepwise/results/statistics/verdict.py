"""What a difference says: better, equivalent or undecided, and how many replicates would settle it."""

import bisect
import math
from dataclasses import dataclass
from typing import Literal

from scipy.special import chdtri, nctdtr, ndtri, stdtrit

from sweepwise.errors import UsageError
from sweepwise.results.statistics.difference import Difference
from sweepwise.results.statistics.estimate import CONFIDENCE, half_width

POWER = 0.8
MOST = 1000  # replicates beyond which no number is given
LARGEST = (
    1e4  # differences in deviations, for which two replicates suffice; scipy's noncentral t is NaN beyond
)
WINS = 0.75  # share of pairs of runs that the better setting wins at the default margin


@dataclass(frozen=True)
class Needed:
    """Replicates of each setting that would settle a comparison.

    Attributes:
        n: at the deviation that was seen; > MOST reads 'more than 1000'.
        low: at the lower end of the deviation's interval.
        high: at its upper end.
    """

    n: int
    low: int
    high: int


@dataclass(frozen=True)
class Margin:
    """The largest difference that does not matter.

    Attributes:
        value: in the metric's unit, >= 0; NaN where the deviation is unknown.
        rule: where it comes from, in words.
    """

    value: float
    rule: str


@dataclass(frozen=True)
class Verdict:
    """What a difference says.

    Attributes:
        kind: 'better': one setting is, surely; 'equivalent': they surely differ by less than the margin;
            'undecided': neither can be said.
        difference: what was judged; `difference.mean` says in which direction.
        margin: the largest difference that does not matter.
        needed: replicates of each setting that would settle it; None where it is decided, or there is
            no deviation to reckon with (one replicate).
        within_margin: the difference is surely less than the margin; of a 'better', that it hardly matters.
        by: what decided: 'value', or 'failures' of runs (see `failures.with_failures`).
        better: the better setting where failures decided; where values did, ask `direction`.
    """

    kind: Literal["better", "equivalent", "undecided"]
    difference: Difference
    margin: Margin
    needed: Needed | None
    within_margin: bool
    by: Literal["value", "failures"] = "value"
    better: Literal["a", "b"] | None = None

    def direction(self, mode: Literal["min", "max"]) -> Literal["a", "b"] | None:
        """Which of a and b is the better one; None unless the verdict is 'better'."""
        if self.kind != "better" or self.better:
            return self.better
        return "a" if (self.difference.mean < 0) == (mode == "min") else "b"


def default_margin(difference: Difference) -> Margin:
    """The difference at which the better setting wins three of four pairs of single runs.

    Less than that is what another seed may undo. P(A > B) = 0.75 is the bound that the source recommends; for
    normal values of equal deviation it is a difference of sqrt(2) * 0.674 = 0.95 deviations of a run.

    Source: Bouthillier et al., Accounting for Variance in Machine Learning Benchmarks, MLSys 2021,
    arXiv:2103.03098.
    """
    value = math.sqrt(2) * float(ndtri(WINS)) * difference.run_deviation
    return Margin(value, "0.95 standard deviations of a run: the better one wins 3 of 4 pairs of runs")


def judge(difference: Difference, margin: float | None = None, *, power: float = POWER) -> Verdict:
    """The verdict on a difference, at the level of the family it belongs to.

    'Better' where the interval does not cross 0; 'equivalent' by two one-sided tests, each at the level of
    the interval; else 'undecided', with the number of replicates of each setting that would find the
    difference that was seen or, where that is smaller, one of the margin.

    Args:
        difference: of two settings, from any function of `multiple` or `difference`.
        margin: the largest difference that does not matter, > 0, in the metric's unit; None: the default.
        power: chance with which `needed` replicates settle it, in (0, 1).

    Source: Schuirmann, A Comparison of the Two One-Sided Tests Procedure and the Power Approach for Assessing
    the Equivalence of Average Bioavailability, Journal of Pharmacokinetics and Biopharmaceutics 15 (1987).
    """
    if margin is not None and not 0 < margin < math.inf:
        raise UsageError([f"margin={margin}: must be more than 0 and finite, in the metric's unit"])
    limit = default_margin(difference) if margin is None else Margin(margin, "given")
    better = difference.mean != 0 and (difference.low >= 0 or difference.high <= 0)
    within = _within(difference, limit.value)
    kind: Literal["better", "equivalent", "undecided"] = (
        "better" if better else "equivalent" if within else "undecided"
    )
    needed = None
    if kind == "undecided" and difference.df > 0 and difference.deviation > 0 and not difference.counted:
        effect = max(abs(difference.mean), limit.value)
        needed = seeds_needed(
            effect,
            difference.deviation,
            difference.df,
            paired=difference.how == "paired",
            power=power,
            level=difference.level,
        )
    return Verdict(kind, difference, limit, needed, within)


def seeds_needed(
    effect: float,
    deviation: float,
    df: float,
    *,
    paired: bool,
    power: float = POWER,
    level: float = 1 - CONFIDENCE,
    confidence: float = CONFIDENCE,
) -> Needed:
    """Replicates of each setting with which a t test finds a true difference, by the noncentral t.

    Args:
        effect: the true difference, not 0, in the metric's unit.
        deviation: of a pair's difference where paired, else of one run; > 0.
        df: degrees of freedom with which the deviation was estimated, > 0: they give the range.
        paired: whether replicates are shared.
        power: chance to find it, in (0, 1).
        level: two-sided level of the comparison, in (0, 1).
        confidence: of the range, from the chi-square interval of the deviation, in (0, 1).

    Source: Cohen, Statistical Power Analysis for the Behavioral Sciences (1988), chapter 2.

    Example:
        >>> seeds_needed(0.5, 1.0, 9, paired=False).n  # the textbook's 64 a group
        64
    """
    tail = (1 - confidence) / 2
    shortest = deviation * math.sqrt(df / chdtri(df, tail))
    longest = deviation * math.sqrt(df / max(chdtri(df, 1 - tail), 1e-300))
    n, low, high = (
        _replicates(abs(effect) / each, paired, power, level) for each in (deviation, shortest, longest)
    )
    return Needed(n, low, high)


def _within(difference: Difference, margin: float) -> bool:
    """Whether two one-sided tests put the difference within the margin."""
    if difference.exact:
        return abs(difference.mean) < margin
    if not difference.df:
        return False
    half = float(half_width(difference.standard_error, difference.df, 2 * difference.level))
    return bool(abs(difference.mean) + half < margin)


def _replicates(ratio: float, paired: bool, power: float, level: float) -> int:
    """The least n of which the power is reached, MOST + 1 where it is more; ratio: effect over deviation."""

    def enough(n: int) -> bool:
        df = n - 1 if paired else 2 * (n - 1)
        noncentrality = min(ratio, LARGEST) * math.sqrt(n if paired else n / 2)
        critical = stdtrit(df, 1 - level / 2)
        found = 1 - nctdtr(df, noncentrality, critical)
        return bool(
            found >= power if math.isfinite(found) else noncentrality > critical
        )  # far out in the tail

    return bisect.bisect_left(range(MOST + 1), True, lo=2, key=enough)
