"""What results count for: whether a run has come far enough, its value there, the best of several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweepwise.results.statistics.estimate import moments
from sweepwise.search.strategy import PAUSED, Decision, Known, Result
from sweepwise.search.words import counted

Overrides = tuple[str, ...]
Score = tuple[float, float, int]  # share of runs without a value, mean of the others, place: lower is better
WELL = ("finished", "stopped early")


def reached(result: Result, end: int | None) -> bool:
    """Whether a run has come as far, or can come no further."""
    if result.status != PAUSED:
        return True
    return end is not None and max(result.epochs, *result.curve, 0) >= end


def value_at(result: Result, end: int | None) -> float:
    """The metric of a run at an epoch, as it was measured last; of one that had ended before what it kept.

    What became of it later counts for nothing: a search that is started again must decide as it did.

    Args:
        result: of the run.
        end: the epoch; None: the value that it has kept at its end, NaN if it has paused, failed or diverged.
    """
    if end is not None and max(result.curve, default=0) >= end:
        return result.curve.get(max((epoch for epoch in result.curve if epoch <= end), default=0), math.nan)
    return math.nan if result.status not in WELL or result.value is None else result.value


def score(
    runs: Sequence[Overrides], known: Known, sign: int, place: int = 0, end: int | None = None
) -> Score:
    """How good a setting is, by the rule of an answer: fewest failures first, then the mean of the others.

    Args:
        runs: of the setting.
        known: their results.
        sign: 1 where lower values are better, -1 where higher ones are.
        place: of the setting, which decides where all else is equal.
        end: the epoch at which they are compared; None: the end.
    """
    values = [value_at(known[run], end) for run in runs]
    good = [sign * value for value in values if math.isfinite(value)]
    return 1 - len(good) / len(values), moments(good)[0] if good else math.inf, place


@dataclass(frozen=True)
class Best:
    """The best of some settings or points.

    Attributes:
        name: its overrides.
        value: the mean over its runs that have one, in the metric's own direction.
        equal: how many others are exactly as good, and come later.
    """

    name: Overrides
    value: float
    equal: int


def best(candidates: Sequence[tuple[Overrides, Sequence[Overrides]]], known: Known, sign: int) -> Best | None:
    """The best of some settings or points; None if no run has a value.

    Args:
        candidates: the overrides of each and those of its runs; of equal ones the first is the best.
        known: the results of all these runs.
        sign: 1 where lower values are better, -1 where higher ones are.
    """
    scores = [score(runs, known, sign, place) for place, (_, runs) in enumerate(candidates)]
    failed, mean, place = min(scores, default=(1.0, math.inf, 0))
    if failed == 1:
        return None
    equal = sum(one[:2] == (failed, mean) for one in scores) - 1
    return Best(candidates[place][0], sign * mean, equal)


def ending(why: str, found: Best | None, about: Mapping[str, Any]) -> Decision:
    """The decision that ends a search, which names its best.

    Args:
        why: it ends.
        found: the best; None: no run has a value.
        about: the numbers that led to it.
    """
    if found is None:
        return Decision("end", f"{why}; none has a value", {**about, "best": None})
    others = f" ({counted(found.equal, 'other')} {'is' if found.equal == 1 else 'are'} equal)"
    said = (
        f"{why}; the best of them: {' '.join(found.name)}, {found.value:.4g}{others if found.equal else ''}"
    )
    best = {"best": list(found.name), "value": found.value, "equal": found.equal}
    return Decision("end", said, {**about, **best})
