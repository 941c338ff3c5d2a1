"""Runs without a value: settings that fail rank last, and surviving runs alone never make one better."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sweepwise.errors import UsageError
from sweepwise.results.statistics.verdict import Verdict


@dataclass(frozen=True)
class Group:
    """All runs of a setting.

    Attributes:
        values: replicate -> value of the runs that have one, finite. A run that was stopped early by its own
            rule has its best value, as any other.
        failed: number of runs that diverged or failed, >= 0.
        censored: number of runs that a search ended before their time, >= 0: neither failed nor comparable.
    """

    values: Mapping[Any, float] = field(default_factory=dict)
    failed: int = 0
    censored: int = 0

    @property
    def tried(self) -> int:
        """Runs that came to an end of their own, with or without a value."""
        return len(self.values) + self.failed

    @property
    def share_failed(self) -> float:
        """In [0, 1]; 0 where none has ended."""
        return self.failed / self.tried if self.tried else 0.0


def fisher(failed_a: int, n_a: int, failed_b: int, n_b: int) -> float:
    """Fisher's exact two-sided p value for two shares of failed runs.

    By `math.comb`: scipy.stats has it too, but takes 0.46 s to import.

    Args:
        failed_a: of n_a runs, 0 to n_a.
        n_a: runs of a, >= 0.
        failed_b: of n_b runs.
        n_b: runs of b.

    Source: Fisher, The Logic of Inductive Inference, Journal of the Royal Statistical Society 98 (1935).

    Example:
        >>> round(fisher(5, 5, 0, 5), 4)
        0.0079
    """
    if not (0 <= failed_a <= n_a and 0 <= failed_b <= n_b):
        raise UsageError([f"failed={failed_a}, {failed_b}: must be between 0 and the runs, {n_a} and {n_b}"])
    failed = failed_a + failed_b
    ways = [math.comb(n_a, x) * math.comb(n_b, failed - x) if x <= failed else 0 for x in range(n_a + 1)]
    return sum(way for way in ways if way <= ways[failed_a]) / math.comb(n_a + n_b, failed)


def with_failures(verdict: Verdict, a: Group, b: Group, mode: Literal["min", "max"]) -> Verdict:
    """A verdict on the runs that have values, put right by those that have none.

    - Which of both fails more often may be sure (Fisher's exact test at half the comparison's level): then
      the other is better, by failures, whatever the survivors' values say.
    - Else a setting that failed in a larger share of its runs is not better by its survivors; the verdict is
      undecided.
    - Nor are two settings equivalent of which one failed more often.

    Args:
        verdict: of `judge` on the difference a - b of the runs with values.
        a: all runs of a.
        b: all runs of b.
        mode: whether low or high values are better.
    """
    if a.share_failed == b.share_failed:
        return verdict
    reliable: Literal["a", "b"] = "a" if a.share_failed < b.share_failed else "b"
    if fisher(a.failed, a.tried, b.failed, b.tried) <= verdict.difference.level / 2:
        return replace(verdict, kind="better", by="failures", better=reliable, needed=None)
    if verdict.kind == "better" and verdict.direction(mode) == reliable:
        return verdict
    if verdict.kind == "undecided":
        return verdict
    return replace(verdict, kind="undecided", by="failures", needed=None)
