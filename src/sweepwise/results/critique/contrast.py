"""The difference between two values of a key over blocks, and its noise.

A block is one combination of the other settings. Runs of one seed need not be independent between blocks: of
another key that does little they are nearly the same runs.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from scipy.special import stdtr, stdtrit

from sweepwise.results.table import Values

Costs = Mapping[Values, float]  # by replicate; lower is better
Block = Mapping[Hashable, Costs]  # by value of the key
LEVEL = 0.05  # of the intervals by which two standard errors of different degrees of freedom are compared


@dataclass(frozen=True)
class Contrast:
    """The cost at one value of a key minus that at another.

    Attributes:
        mean: over blocks; negative: the first is better.
        error: its standard error.
        df: degrees of freedom; 0 where there are too few replicates.
    """

    mean: float
    error: float
    df: int

    @property
    def p(self) -> float:
        """Two-sided p value; 1 where nothing is known."""
        if not self.df or not self.mean:
            return 1.0
        if not self.error:
            return 0.0
        return 2 * float(stdtr(self.df, -abs(self.mean) / self.error))

    def half(self, level: float) -> float:
        """Half the width of a two-sided interval that errs in `level` of all cases."""
        return float(stdtrit(self.df, 1 - level / 2)) * self.error if self.df else math.inf


def contrast(
    blocks: Sequence[Block], one: Hashable, other: Hashable, near: Sequence[Hashable], step: float
) -> Contrast:
    """The mean over blocks of the difference between two values of a key.

    Its noise is the larger of two estimates: from the costs of all blocks as if these were independent, and
    from the replicates' means over blocks, which holds whatever the runs of a seed share.
    """
    found = _independent(blocks, one, other, near, step)
    if len(blocks) < 2:
        return found
    whole = over_blocks(blocks, [one, other, *near])
    shared = _independent([whole], one, other, near, step / math.sqrt(len(blocks)))
    return wider(found, replace(shared, mean=found.mean))


def wider(first: Contrast, second: Contrast) -> Contrast:
    """The one that is less sure."""
    return max(first, second, key=lambda one: one.half(LEVEL))


def over_blocks(blocks: Sequence[Block], values: Sequence[Hashable]) -> Block:
    """All blocks as one: the mean of each replicate over blocks, by value; of values that all blocks have.

    A replicate that some blocks lack counts by what it is off their means in the others.
    """
    whole: dict[Hashable, Costs] = {}
    for value in dict.fromkeys(values):
        if not all(value in block for block in blocks):
            continue
        middle, off = 0.0, dict[Values, list[float]]()
        for block in blocks:
            mean = sum(block[value].values()) / len(block[value])
            middle += mean / len(blocks)
            for replicate, cost in block[value].items():
                if len(block[value]) > 1:
                    off.setdefault(replicate, []).append(cost - mean)
        whole[value] = {at: middle + sum(each) / len(each) for at, each in off.items()} or {(): middle}
    return whole


def _independent(
    blocks: Sequence[Block], one: Hashable, other: Hashable, near: Sequence[Hashable], step: float
) -> Contrast:
    """A contrast over independent blocks.

    The noise is what remains of the costs after the effects of value and replicate in each block, over these
    two values and those near them: two seeds alone would leave one degree of freedom.
    """
    means, factors, squares, df = [], [], 0.0, 0
    for block in blocks:
        first, second = block[one], block[other]
        shared = sorted(first.keys() & second.keys(), key=repr)
        if shared:
            means.append(sum(first[at] - second[at] for at in shared) / len(shared))
            factors.append(2 / len(shared))
        else:
            means.append(sum(first.values()) / len(first) - sum(second.values()) / len(second))
            factors.append(1 / len(first) + 1 / len(second))
        left, freedom = residual(block, [one, other, *near])
        squares, df = squares + left, df + freedom
    if not means:
        return Contrast(0.0, math.inf, 0)
    noise = max(squares / df if df else 0.0, step**2 / 12)
    return Contrast(sum(means) / len(means), math.sqrt(noise * sum(factors)) / len(means), df)


def residual(block: Block, values: Sequence[Hashable]) -> tuple[float, int]:
    """Sum of squares within a block that neither value nor replicate explains, and its degrees of freedom.

    Where the values share fewer than two replicates, only the values' means are taken out.
    """
    there = [block[value] for value in dict.fromkeys(values) if value in block]
    shared = sorted(set.intersection(*(set(costs) for costs in there)), key=repr) if there else []
    if len(shared) > 1:
        rows = [[costs[at] for at in shared] for costs in there]
        columns = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        overall = sum(columns) / len(columns)
        squares = sum(
            (value - sum(row) / len(row) - column + overall) ** 2
            for row in rows
            for value, column in zip(row, columns, strict=True)
        )
        return squares, (len(rows) - 1) * (len(shared) - 1)
    return within(there)


def within(samples: Sequence[Costs]) -> tuple[float, int]:
    """Sum of squares between the replicates of a setting, over settings, and its degrees of freedom."""
    squares, df = 0.0, 0
    for costs in samples:
        mean = sum(costs.values()) / len(costs)
        squares += sum((cost - mean) ** 2 for cost in costs.values())
        df += len(costs) - 1
    return squares, df


def run_deviation(blocks: Sequence[Block], values: Sequence[Hashable], step: float) -> float:
    """Standard deviation between the replicates of a setting; NaN where none was repeated."""
    squares, df = within([block[value] for block in blocks for value in values if value in block])
    return max(math.sqrt(squares / df), step / math.sqrt(12)) if df else math.nan
