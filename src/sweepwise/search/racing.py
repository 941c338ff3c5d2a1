"""Racing: settings with as few runs as the question needs; what is surely worse is dropped on the way.

Source: Maron and Moore, Hoeffding Races, NIPS 1993; the test is that of `elimination`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from sweepwise.config.ranges import Range
from sweepwise.errors import UsageError
from sweepwise.search import elimination
from sweepwise.search.race import Race
from sweepwise.search.strategy import Known, Step

USUAL_SEEDS = 20  # at most, where none are swept


@dataclass(frozen=True)
class RacingSettings:
    """Keys of hydra/sweeper=racing.

    Args:
        min_seeds: of each setting, before the first is dropped, >= 3.
        max_seeds: of a setting, at which the race ends; null: all that are swept, else 20.
        budget: runs that are asked for at most; null: as many as it takes.
        margin: the largest difference that does not matter, in the metric's unit; null: 0.95 standard
            deviations of a run, as in an answer.

    Raises:
        UsageError: `max_seeds` is less than `min_seeds`.
    """

    min_seeds: Annotated[int, Range(3)] = 3
    max_seeds: Annotated[int, Range(3)] | None = None
    budget: Annotated[int, Range(1)] | None = None
    margin: Annotated[float, Range(0, open_low=True)] | None = None

    def __post_init__(self) -> None:
        if self.max_seeds is not None and self.max_seeds < self.min_seeds:
            rule = f"must be at least hydra.sweeper.min_seeds={self.min_seeds}"
            raise UsageError([f"hydra.sweeper.max_seeds={self.max_seeds}: {rule}"])


class Racing:
    """Begins with all settings, adds seeds where it is undecided, and drops what is surely worse.

    Args:
        settings: the overrides of each, at least two.
        seeds: the overrides of each replicate, in the order in which they are run; None: seed.value=0, 1, ...
        sign: 1 where lower values are better, -1 where higher ones are.
        rules: the keys of the sweeper.

    Raises:
        UsageError: there is nothing to compare, too few seeds, or a budget that ends before the first look.
    """

    def __init__(
        self,
        settings: Sequence[tuple[str, ...]],
        seeds: Sequence[tuple[str, ...]] | None,
        sign: int,
        rules: RacingSettings,
    ) -> None:
        most = rules.max_seeds or (USUAL_SEEDS if seeds is None else len(seeds))
        self._seeds = [(f"seed.value={seed}",) for seed in range(most)] if seeds is None else seeds[:most]
        self._settings, self._sign, self._rules = settings, sign, rules
        self._swept = seeds is not None
        self._looks = elimination.looks(rules.min_seeds, max(len(self._seeds), 1))
        if faults := list(self._faults()):
            raise UsageError(faults)

    def _faults(self) -> Iterator[str]:
        first = self._rules.min_seeds * len(self._settings)
        if len(self._settings) < 2:
            yield "hydra/sweeper=racing: compares settings; sweep a key, such as optimizer.lr=0.1,0.01"
        least = self._rules.min_seeds
        if len(self._seeds) < least:
            way_out = "give more, or leave them out, and a race takes as many as it needs"
            rule = f"the sweep has {len(self._seeds)} seeds; {way_out}"
            if not self._swept:
                rule = (
                    f"must be at most {len(self._seeds)}, unless hydra.sweeper.max_seeds={least} is given too"
                )
            yield f"hydra.sweeper.min_seeds={least}: {rule}"
        if self._rules.budget is not None and self._rules.budget < first:
            yield (
                f"hydra.sweeper.budget={self._rules.budget}: {len(self._settings)} settings x "
                f"{self._rules.min_seeds} seeds are {first} runs already; give more, or sweep fewer settings"
            )

    def next(self, known: Known) -> Step:
        """See `Strategy.next`: every look so far is repeated, and the first that lacks runs asks for them."""
        race = Race(self._settings, self._sign, known)
        for seeds in self._looks:
            new = [
                (*self._settings[one], *seed)
                for seed in self._seeds[race.seen : seeds]
                for one in race.active
            ]
            if self._rules.budget is not None and race.runs + len(new) > self._rules.budget:
                spent = f"the budget is spent: {race.runs} of {self._rules.budget} runs"
                return race.end(f"{spent}, {len(new)} more would follow")
            if any(overrides not in known for overrides in new):
                return race.going_on(new, seeds)
            race.take(self._seeds[:seeds], len(new))
            if race.best is None:
                return race.end("no run has a value")
            if len(race.active) == 1:
                return race.end("the best is known")
            if race.best.equivalent(self._rules.margin):
                return race.end("what is left is equivalent to the best within the margin")
        return race.end(f"all {race.seen} seeds are spent")
