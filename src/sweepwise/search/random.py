"""Random search: points of a sequence, one after the other; a longer search begins with the shorter one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Annotated

from sweepwise.config.ranges import Range
from sweepwise.search.measured import best, ending
from sweepwise.search.sequence import Name, rows
from sweepwise.search.space import Overrides, Space
from sweepwise.search.strategy import Decision, Known, Step, Trial
from sweepwise.search.words import numbered

MOST_IN_VAIN = 1000  # points in a row that were there already, before the space counts as exhausted


@dataclass(frozen=True)
class RandomSettings:
    """Keys of hydra/sweeper=random.

    Args:
        samples: points that are tried, each with all of its seeds.
        seed: of the sequence.
        sequence: sobol and halton fill the space more evenly than random.
        at_once: points that are handed to the launcher at once; null: all.
    """

    samples: Annotated[int, Range(1)] = 16
    seed: Annotated[int, Range(0)] = 0
    sequence: Name = "sobol"
    at_once: Annotated[int, Range(1)] | None = None


class Random:
    """Asks for the points of a sequence; what they bring decides nothing but which of them is named best.

    Args:
        space: what is drawn from; at least one parameter.
        settings: how many, and which.
        sign: 1 where lower values are better, -1 where higher ones are.
    """

    def __init__(self, space: Space, settings: RandomSettings, sign: int = 1) -> None:
        self._space, self._settings, self._sign = space, settings, sign

    @cached_property
    def points(self) -> list[Overrides]:
        """The points, each once; fewer than were asked for if there are no more."""
        return list(islice(self._distinct(), self._settings.samples))

    def _distinct(self) -> Iterator[Overrides]:
        found: set[Overrides] = set()
        in_vain = 0
        for row in rows(self._settings.sequence, len(self._space.parameters), self._settings.seed):
            point = self._space.point(row)
            in_vain = in_vain + 1 if point in found else 0
            if not in_vain:
                found.add(point)
                yield point
            if len(found) == self._space.size or in_vain == MOST_IN_VAIN:
                return

    def next(self, known: Known) -> Step:
        """The points that are not known yet, as many as are handed over at once."""
        settings, points = self._settings, self.points
        size = settings.at_once or len(points)
        for first in range(0, len(points), size):
            batch = list(enumerate(points[first : first + size], first + 1))
            asked = [overrides for _, point in batch for overrides in self._space.runs(point)]
            if not all(overrides in known for overrides in asked):
                decisions = tuple(self._begun(*one) for one in batch)
                return Step(decisions, tuple(map(Trial, asked)), (self._source(batch[0][0], batch[-1][0]),))
        few = len(points) < settings.samples
        why = (
            f"there are no more than these {len(points)} points, of {settings.samples} that were asked for"
            if few
            else f"all {len(points)} points have been tried"
        )
        runs = [(point, self._space.runs(point)) for point in points]
        decision = ending(why, best(runs, known, self._sign), {"points": len(points)})
        return Step((decision,), said=(decision.why,))

    def _begun(self, number: int, point: Overrides) -> Decision:
        about = {"point": list(point), "runs": len(self._space.replicates)}
        return Decision("begin", self._source(number, number), about)

    def _source(self, first: int, last: int) -> str:
        settings = self._settings
        return f"{numbered(first, last)} of the {settings.sequence} sequence with seed {settings.seed}"
