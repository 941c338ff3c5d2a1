"""Many comparisons at once: at most 5 % of all sweeps, not of all comparisons, have any false 'better'."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sweepwise.errors import UsageError
from sweepwise.results.statistics.difference import Difference, Replicates, difference, resolution
from sweepwise.results.statistics.estimate import CONFIDENCE, half_width
from sweepwise.results.statistics.selection import bests_level, bests_p, chosen_level, chosen_p

Groups = Mapping[Any, Replicates]  # by setting


@dataclass(frozen=True)
class AgainstBest:
    """The setting that looks best, compared with each of the others.

    Attributes:
        best: its name.
        differences: other setting -> best minus that setting, with intervals that hold together although
            the best was chosen by looking at the same values.
    """

    best: Hashable
    differences: dict[Hashable, Difference]


def holm(p_values: ArrayLike) -> NDArray:
    """Holm's adjusted p values: rejecting those <= 0.05 has at most 5 % of families with any false rejection.

    Args:
        p_values: (..., m), each family along the last axis, in any order, [0, 1].

    Returns:
        (..., m), in the same order, never less than the p value.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of
    Statistics 6 (1979).

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p, axis=-1, kind="stable")
    factors = np.arange(p.shape[-1], 0, -1)
    stepped = np.maximum.accumulate(np.take_along_axis(p, order, -1) * factors, axis=-1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(stepped, 1), axis=-1)
    return adjusted


def against_best(groups: Groups, mode: Literal["min", "max"], confidence: float = CONFIDENCE) -> AgainstBest:
    """The setting with the best mean against each of the others, valid although it was chosen by its mean.

    A setting with one replicate is not chosen where another has more: its mean has no known error.

    Args:
        groups: setting -> replicate -> value; two settings or more.
        mode: whether low or high values are better.
        confidence: of all intervals together, in (0, 1).

    Source: see `selection.chosen_p`.

    Example:
        >>> answer = against_best({"a": {0: 1.0, 1: 1.1, 2: 1.2}, "b": {0: 5.0, 1: 5.2, 2: 5.1}}, "min")
        >>> answer.best, round(answer.differences["b"].mean, 2), round(answer.differences["b"].adjusted, 4)
        ('a', -4.0, 0.0002)
    """
    if len(groups) < 2:
        raise UsageError([f"{len(groups)} setting: a comparison needs two or more"])
    best = _best(groups, mode)
    others = [name for name in groups if name != best]
    found = _compared(groups, [(best, name) for name in others], confidence)
    df = np.array([pair.df for pair in found])
    t = np.array([pair.t for pair in found])
    adjusted = chosen_p(t, df, len(groups))
    level = chosen_level(df, len(groups), 1 - confidence)
    return AgainstBest(
        best,
        {
            name: _widened(pair, float(each), float(p))
            for name, pair, each, p in zip(others, found, level, adjusted, strict=True)
        },
    )


def _best(groups: Groups, mode: Literal["min", "max"]) -> Hashable:
    """The setting with the best mean; not one with a single replicate where another has more."""
    sign = 1 if mode == "min" else -1
    several = [name for name, values in groups.items() if len(values) > 1] or list(groups)
    return min(several, key=lambda name: sign * math.fsum(groups[name].values()) / len(groups[name]))


def family(
    groups: Groups,
    pairs: Sequence[tuple[Any, Any]],
    confidence: float = CONFIDENCE,
    choices: Sequence[tuple[int, int]] | None = None,
) -> dict[tuple[Any, Any], Difference]:
    """Comparisons that are made together: p values by Holm, intervals by Bonferroni.

    A comparison that Holm decides and Bonferroni alone would not has an interval that ends at 0: so both
    always agree, and all intervals together keep their confidence.

    Args:
        groups: setting -> replicate -> value.
        pairs: that are compared.
        confidence: of all intervals together, in (0, 1).
        choices: for each pair from how many settings each of both was chosen as the best one, which is paid
            for (`selection.bests_p`); None: nothing was chosen.

    Meant for tens of settings; of hundreds ask `against_best`, which has far fewer comparisons to pay for.

    Source: Strassburger and Bretz, Compatible Simultaneous Lower Confidence Bounds for the Holm Procedure and
    Other Bonferroni-based Closed Tests, Statistics in Medicine 27 (2008).

    Example:
        >>> groups = {"a": {0: 1.0, 1: 2.0, 2: 3.1}, "b": {0: 11.0, 1: 12.1, 2: 13.0}}
        >>> round(family(groups, [("a", "b")])["a", "b"].adjusted, 5)
        3e-05
    """
    found = _compared(groups, pairs, confidence)
    if not found:
        return {}
    sizes = [(1, 1)] * len(found) if choices is None else choices
    adjusted = holm([_paid(pair, *size) for pair, size in zip(found, sizes, strict=True)])
    level = (1 - confidence) / len(found)
    wide = [
        _widened(pair, level if size == (1, 1) else float(bests_level(pair.df, *size, level)), float(p))
        for pair, p, size in zip(found, adjusted, sizes, strict=True)
    ]
    return {names: _clipped(pair, confidence) for names, pair in zip(pairs, wide, strict=True)}


def _paid(pair: Difference, settings_a: int, settings_b: int) -> float:
    """The p value of a comparison, when a and b were chosen among so many settings."""
    if settings_a == settings_b == 1 or pair.exact or not pair.df:
        return pair.p
    return float(bests_p(pair.t, pair.df, settings_a, settings_b))


def _compared(
    groups: Groups,
    pairs: Iterable[tuple[Any, Any]],
    confidence: float,
) -> list[Difference]:
    """Differences of pairs of settings, with what all values say of the step in which they move."""
    step = resolution(value for values in groups.values() for value in values.values())
    return [difference(groups[a], groups[b], confidence, resolution=step) for a, b in pairs]


def _widened(pair: Difference, level: float, adjusted: float) -> Difference:
    """A comparison with the interval and p value of its family."""
    if pair.exact or not pair.df:
        return replace(pair, level=level, adjusted=adjusted)
    half = half_width(pair.standard_error, pair.df, level)
    return replace(pair, low=pair.mean - half, high=pair.mean + half, level=level, adjusted=adjusted)


def _clipped(pair: Difference, confidence: float) -> Difference:
    """A comparison with the end of its interval at 0 if it was beyond although the comparison is decided."""
    if pair.adjusted > 1 - confidence:
        return pair
    return replace(pair, low=max(pair.low, 0.0)) if pair.mean > 0 else replace(pair, high=min(pair.high, 0.0))
