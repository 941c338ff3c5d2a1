"""What the best setting is worth, without the luck by which it was chosen."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sweepwise.errors import UsageError
from sweepwise.results.statistics.difference import Replicates
from sweepwise.results.statistics.estimate import CONFIDENCE, Estimate, checked, mean_interval

SPLITS = 200  # ways of halving the replicates beyond which a sample of as many is taken


@dataclass(frozen=True)
class Winner:
    """The best of many settings.

    Attributes:
        name: the setting with the best mean.
        seen: its own mean and interval, which are too good: it was chosen by them.
        fair: its value without the luck of the choice; NaN with fewer than two replicates.
        low: lower end of the interval for its expected value; -inf with fewer than two replicates.
        high: upper end.
        chosen_again: share of the choices by half of the replicates that fell on it, in [0, 1].
    """

    name: Any
    seen: Estimate
    fair: float
    low: float
    high: float
    chosen_again: float


def winner(
    groups: Mapping[Any, Replicates], mode: Literal["min", "max"], confidence: float = CONFIDENCE
) -> Winner:
    """The best setting, and a fair estimate of it by halves of the replicates.

    The best of N equal settings looks 1.5, 2.1 and 2.5 standard errors too good at N = 10, 32 and 100. So
    the best is chosen by one half of the replicates and valued by the other, over all ways of halving them;
    the mean is not too good, whatever the distribution and however the settings differ. Where half of the
    replicates choose worse than all, it is a little too bad. Shrinkage towards the mean of all settings
    scatters less, but believes most of the luck where half of the settings are bad, as they are in most
    sweeps.

    The interval reaches from the fair value to the seen one, and on both sides as far as Student's t of the
    chosen setting: how much of its lead is luck is not known better.

    Args:
        groups: setting -> replicate -> value, finite; one setting or more.
        mode: whether low or high values are better.
        confidence: of the intervals, in (0, 1).

    Source: Stone, Cross-Validatory Choice and Assessment of Statistical Predictions, Journal of the Royal
    Statistical Society B 36 (1974).

    Example:
        >>> best = winner({"a": {0: 0.5, 1: 0.9, 2: 0.6}, "b": {0: 0.6, 1: 0.5, 2: 0.7}}, "max")
        >>> best.name, round(best.seen.mean, 3), round(best.fair, 3)
        ('a', 0.667, 0.533)
    """
    if not groups:
        raise UsageError(["0 settings: there must be one or more"])
    sign = 1 if mode == "min" else -1
    table = _table(groups)
    known = ~np.isnan(table)
    filled = np.where(known, table, 0.0)
    several = known.sum(axis=1) >= min(2, known.sum(axis=1).max())
    best = int(_best(sign, filled, known, np.ones((1, table.shape[1]), bool), several)[0])
    choosing = _halves(table.shape[1])
    chosen = _best(sign, filled, known, choosing, several)
    valuing = known[chosen] & ~choosing
    count = valuing.sum(axis=1)
    chosen, count, sums = (
        chosen[count > 0],
        count[count > 0],
        (filled[chosen] * valuing).sum(axis=1)[count > 0],
    )
    seen = mean_interval(table[best][known[best]].tolist(), confidence)
    fair = float(np.mean(sums / count)) if len(count) and seen.n > 1 else math.nan
    half = (seen.high - seen.low) / 2
    return Winner(
        name=list(groups)[best],
        seen=seen,
        fair=fair,
        low=min(fair, seen.mean) - half if seen.n > 1 else -math.inf,
        high=max(fair, seen.mean) + half if seen.n > 1 else math.inf,
        chosen_again=float(np.mean(chosen == best)) if len(count) else 0.0,
    )


def _table(groups: Mapping[Any, Replicates]) -> NDArray:
    """(settings, replicates) NaN where a setting lacks one; those that are not shared fill it in order."""
    replicates = dict.fromkeys(key for values in groups.values() for key in values)
    column = {key: place for place, key in enumerate(replicates)}
    if len(column) == sum(map(len, groups.values())):
        column = {key: place for values in groups.values() for place, key in enumerate(values)}
    table = np.full((len(groups), 1 + max(column.values())), math.nan)
    for row, values in zip(table, groups.values(), strict=True):
        row[[column[key] for key in values]] = checked(values.values())
    return table


def _best(sign: int, filled: NDArray, known: NDArray, use: NDArray, several: NDArray) -> NDArray:
    """The row with the best mean over the replicates to use, for each of the ways: use (ways, replicates)."""
    count = known.astype(float) @ use.T
    means = np.where((count > 0) & several[:, None], sign * (filled @ use.T) / np.maximum(count, 1), np.inf)
    return means.argmin(axis=0)


def _halves(n: int) -> NDArray:
    """(ways, n): which replicates choose, n - n // 2 of them; all ways, or a fixed sample of SPLITS."""
    size = n - n // 2
    if math.comb(n, size) <= SPLITS:
        ways = [list(way) for way in combinations(range(n), size)]
    else:
        generator = np.random.default_rng(0)
        ways = [generator.permutation(n)[:size].tolist() for _ in range(SPLITS)]
    use = np.zeros((len(ways), n), bool)
    for row, way in zip(use, ways, strict=True):
        row[way] = True
    return use
