"""Limits that a search keeps to: quantities of runs, and by how much a point is beyond them.

All of them stand in the record of a run, so a search that is started again reads and decides the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweepwise.errors import UsageError, did_you_mean
from sweepwise.improvement import sign
from sweepwise.search.measured import WELL, Overrides
from sweepwise.search.strategy import Result
from sweepwise.search.trained import Goal
from sweepwise.search.words import listed

PLAIN = ("parameters", "seconds")  # quantities that are no metrics; of these less is better
KEY = "hydra.sweeper.constraints"


@dataclass(frozen=True)
class Limit:
    """A limit.

    Attributes:
        quantity: 'parameters', 'seconds', or a metric of the validation part at the best weights.
        bound: its largest allowed value; the smallest one where higher values are better.
        sign: 1 where lower values are better, -1 where higher ones are.
    """

    quantity: str
    bound: float
    sign: int = 1

    def excess(self, results: Sequence[Result]) -> float | None:
        """By which share of the bound the mean over the runs of a point is beyond it; <= 0: it keeps to it.

        Args:
            results: of the runs, at least one.

        Returns:
            None if it is not known of a run, as of one that diverged. Where the bound is 0, the plain excess.

        Raises:
            UsageError: a run that has ended well was not measured by such a quantity.
        """
        values = [self._of(result) for result in results]
        if not all(map(math.isfinite, values)):
            return None
        beyond = self.sign * (math.fsum(values) / len(values) - self.bound)
        return beyond / (abs(self.bound) or 1.0)

    def _of(self, result: Result) -> float:
        if result.status not in WELL:
            return math.nan
        if self.quantity == "seconds":
            return result.seconds
        if self.quantity not in result.metrics:
            hint = did_you_mean(self.quantity, ["seconds", *result.metrics])
            raise UsageError([f"{KEY}.{self.quantity}={self.bound:g}: a run has no such quantity; {hint}"])
        return result.metrics[self.quantity]

    def __str__(self) -> str:
        return f"{self.quantity} {'<=' if self.sign == 1 else '>='} {self.bound:g}"


def limits(constraints: Mapping[str, float] | None, goal: Goal) -> tuple[Limit, ...]:
    """The limits of a search.

    Args:
        constraints: the bound of each quantity; None: there are none.
        goal: what its runs are compared by, whose direction may be its own.

    Raises:
        UsageError: it is no quantity that may decide, or a bound is not finite.
    """
    found, faults = [], []
    for quantity, bound in (constraints or {}).items():
        written = f"{KEY}.{quantity}={bound}"
        if quantity not in PLAIN and not quantity.startswith("val/"):
            metric = "a metric of the validation part such as val/accuracy"
            faults.append(f"{written}: must be {', '.join(PLAIN)} or {metric}; {_way_out(quantity)}")
        elif not math.isfinite(bound):
            faults.append(f"{written}: must be finite")
        else:
            mode = goal.mode if quantity == goal.metric else "auto"
            found.append(Limit(quantity, bound, 1 if quantity in PLAIN else sign(quantity, mode)))
    if faults:
        raise UsageError(faults)
    return tuple(found)


def beyond(
    limits: Sequence[Limit],
    results: Mapping[Overrides, Sequence[Result]],
    before: Mapping[Overrides, Sequence[float]],
) -> dict[Overrides, tuple[float, ...]]:
    """By how much some points are beyond each limit; of what is not known, as much as the worst, or all.

    Args:
        limits: of the search.
        results: of the runs of each point.
        before: the same of the points before.

    Raises:
        UsageError: a run was not measured by the quantity of a limit.
    """
    found = {point: [limit.excess(runs) for limit in limits] for point, runs in results.items()}
    columns = zip(*before.values(), *found.values(), strict=True)
    worst = [max((one for one in column if one is not None and one > 0), default=1.0) for column in columns]
    return {
        point: tuple(bad if one is None else one for one, bad in zip(row, worst, strict=True))
        for point, row in found.items()
    }


def within(
    limits: Sequence[Limit], excess: Mapping[Overrides, Sequence[float]]
) -> tuple[list[Overrides], str, dict[str, object]]:
    """The points that keep to all limits.

    Args:
        limits: of the search, at least one.
        excess: by how much each point is beyond each limit, in the order in which they were tried.

    Returns:
        The points; how many they are, in words, with the one that comes nearest if there is none; and
        that for a log.
    """
    kept = [point for point, row in excess.items() if max(row) <= 0]
    names = listed([str(limit) for limit in limits])
    about: dict[str, object] = {"limits": [str(limit) for limit in limits], "within": len(kept)}
    if kept or not excess:
        return kept, f"{len(kept)} of them with {names}", about
    total = {point: sum(one for one in row if one > 0) for point, row in excess.items()}
    nearest = min(total, key=lambda point: total[point])
    how = f"{' '.join(nearest)} comes nearest, {100 * total[nearest]:.3g} % beyond"
    return kept, f"none of them with {names}; {how}", {**about, "nearest": list(nearest)}


def _way_out(quantity: str) -> str:
    if quantity.startswith("test/"):
        return "nothing is chosen by the test part"
    if quantity.startswith("train/"):
        return "those of the training part are of its last epoch, not of the weights that a run keeps"
    hint = did_you_mean(quantity, PLAIN)
    return hint if "mean" in hint else f"did you mean 'val/{quantity}'?"
