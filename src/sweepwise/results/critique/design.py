"""A sweep along one key: the same other settings and replicates at each of its values.

A block is one combination of the other settings. Within it the key's values are compared by pairs of
replicates, and the differences are averaged over blocks, so whatever the other keys do cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from sweepwise.results.critique.contrast import Block, Contrast, contrast
from sweepwise.results.critique.scale import is_number
from sweepwise.results.statistics.difference import resolution
from sweepwise.results.table import Row, Table, Values

MOST_LEVELS = 12  # of a key that was swept by a grid; more were drawn at random
LARGEST = 1e100
FILLED = 2  # combinations that a grid has for each that has a result


@dataclass(frozen=True)
class Along:
    """All runs, seen along one key.

    Attributes:
        key: which.
        values: that it took, ascending where they are numbers.
        blocks: of runs that ended with a value, by the other settings.
        failed: failed runs and all that ended, by value.
        step: in which the metric moves, 0 for none.
        exact: of the same runs what tells whether two are one and the same: the metric, or where it moves in
            steps a loss that does not; empty without any.
    """

    key: str
    values: tuple[Hashable, ...]
    blocks: Mapping[Values, Block]
    failed: Mapping[Hashable, tuple[int, int]]
    step: float
    exact: Mapping[Values, Block]

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers."""
        return bool(self.values) and all(map(is_number, self.values))

    @property
    def numbers(self) -> list[int | float]:
        """Its values that are numbers."""
        return [value for value in self.values if is_number(value)]

    @cached_property
    def shared(self) -> bool:
        """Whether values were run at equal other settings, as in a grid."""
        there = sum(map(len, self.blocks.values()))
        whole = len(self.blocks) * sum(bad < n for bad, n in self.failed.values())
        return 2 <= len(self.values) <= MOST_LEVELS and 0 < whole <= FILLED * there

    def having(self, *values: Hashable) -> list[Block]:
        """The blocks that have results at all these values, the worse half left out where there are three."""
        found = [block for block in self.blocks.values() if all(value in block for value in values)]
        if len(found) < 3:
            return found
        places = [0.0] * len(found)
        common = [value for value in self.values if all(value in block for block in found)]
        for value in common:
            costs = [sum(block[value].values()) / len(block[value]) for block in found]
            for rank, place in enumerate(sorted(range(len(found)), key=costs.__getitem__)):
                places[place] += rank
        best = sorted(range(len(found)), key=places.__getitem__)[: (len(found) + 1) // 2]
        return [found[place] for place in sorted(best)]

    def contrast(self, one: Hashable, other: Hashable, near: Sequence[Hashable] = ()) -> Contrast:
        """`one` minus `other`, with the noise of both and of the values `near` them."""
        return contrast(self.having(one, other), one, other, near, self.step)


def along(table: Table, key: str, step: float | None = None) -> Along:
    """The runs of a table along one of its settings; runs whose option has no such key are left out."""
    place = table.settings.index(key)
    blocks: dict[Values, dict[Hashable, dict[Values, float]]] = {}
    exact: dict[Values, dict[Hashable, dict[Values, float]]] = {}
    told, failed = _telling(table), dict[Hashable, list[int]]()
    for setting, rows in table.cells.items():
        value = setting[place]
        if value is None:
            continue
        counts = failed.setdefault(value, [0, 0])
        costs, marks = {}, {}
        for row in rows:
            counts[0] += row.failed
            counts[1] += row.failed or row.ended
            if row.ended and row.value is not None:
                costs[row.replicate] = cost(table, row.value)
                if told:
                    marks[row.replicate] = told(row)
        if costs:
            at = setting[:place] + setting[place + 1 :]
            blocks.setdefault(at, {})[value], exact.setdefault(at, {})[value] = costs, marks
    alike = {
        tuple((value, *costs.items()) for value, costs in block.items()): at for at, block in blocks.items()
    }
    blocks = {at: blocks[at] for at in alike.values()}  # of a key that never acts: the same runs once more
    values = [value for value in failed if failed[value][1]]
    if all(map(is_number, values)):
        values.sort(key=lambda value: float(str(value)))
    return Along(
        key,
        tuple(values),
        blocks,
        {value: (counts[0], counts[1]) for value, counts in failed.items()},
        metric_step(table) if step is None else step,
        exact if told else {},
    )


def cost(table: Table, value: float) -> float:
    """A value such that lower is better; none so large that its square is not finite."""
    return table.sign * min(max(value, -LARGEST), LARGEST)


def metric_step(table: Table) -> float:
    """The step in which the values of a table move; see `difference.resolution`."""
    return resolution(cost(table, row.value) for row in table.rows if row.ended and row.value is not None)


def _telling(table: Table) -> Callable[[Row], float] | None:
    """What of a run tells it from another; None if all that is known moves in steps.

    Two accuracies over 50 examples are often equal, two losses only if the runs were the same.
    """
    ended = [row for row in table.rows if row.ended and row.value is not None]
    if _moves([row.value for row in ended]):
        return lambda row: float(row.value or 0.0)
    for part in ("best", "last"):
        tags = [tag for tag in getattr(ended[0], part) if tag.endswith("loss")] if ended else []
        for tag in tags:
            if _moves([getattr(row, part).get(tag) for row in ended]):
                return partial(_metric, part, tag)
    return None


def _metric(part: str, tag: str, row: Row) -> float:
    """A metric of a run, of its `best` or its `last` ones."""
    return float(getattr(row, part)[tag])


def _moves(values: Sequence[float | None]) -> bool:
    """Whether values are known of all runs, and lie on no common step."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return len(known) == len(values) and len(set(known)) > 2 and not resolution(known)
