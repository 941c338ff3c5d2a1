"""How many runs a rule harms: those that would have lost more than matters, and how many more may be so.

A mean does not tell. Most runs lose nothing by a rule and a few lose much, so that runs which all lost
nothing do not say that the next will not. What they do say is how rare those are that lose much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweepwise.results.replay.over_settings import Layout
from sweepwise.results.statistics.share import largest_share

RARE = 0.05


@dataclass(frozen=True)
class Losing:
    """Who loses more than a margin.

    Attributes:
        runs: how many runs do.
        seeds: how many seeds do in any of their settings.
        of: how many seeds there are; each counts once, as what it does may be alike in all settings.
        everywhere: whether each seed was seen in every setting.
        bound: the share of all seeds, seen or not, that do is at most this: in any of these settings where
            `everywhere`, else in those in which a seed is trained.
    """

    runs: int
    seeds: int
    of: int
    everywhere: bool
    bound: float


def losing(lost: NDArray[np.float64], margin: float, runs: Layout, level: float) -> Losing:
    """Who loses more than a margin; of replicates of several crossed factors the least sure one is counted.

    Args:
        lost: (runs,) NaN where not known.
        margin: the largest loss that does not matter.
        runs: their layout.
        level: how often the bound may be too low, in (0, 1).

    Example:
        >>> from sweepwise.results.replay.over_settings import layout
        >>> runs = layout([("a",), ("a",), ("b",), ("b",)], [(0,), (1,), (0,), (1,)])
        >>> losing(np.array([0.0, 0.0, 0.0, 2.0]), 0.1, runs, 0.05)
        Losing(runs=1, seeds=1, of=2, everywhere=True, bound=0.974679434480896)
    """
    known = ~np.isnan(lost)
    much = known & (lost > margin)
    found = []
    for column in runs.replicates:
        seeds, of = len(np.unique(column[much])), len(np.unique(column[known]))
        cells = {*zip(runs.setting[known].tolist(), column[known].tolist(), strict=True)}
        whole = len(cells) == of * len(np.unique(runs.setting[known]))
        found.append(Losing(int(much.sum()), seeds, of, whole, largest_share(seeds, of, level)))
    return max(found, key=lambda one: one.bound)


def seeds_needed(rare: float, level: float) -> int:
    """How many seeds must be seen, none of which loses more, for the bound to be at most `rare`.

    Example:
        >>> seeds_needed(0.05, 0.05), seeds_needed(0.5, 0.05)
        (59, 5)
    """
    return math.ceil(math.log(level) / math.log1p(-rare))
