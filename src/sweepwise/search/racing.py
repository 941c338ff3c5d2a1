"""Racing: settings with as few runs as the question needs; what is surely worse is dropped on the way.

Source: Maron and Moore, Hoeffding Races, NIPS 1993; the test is that of `elimination`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from sweepwise.config.ranges import Range
from sweepwise.errors import UsageError
from sweepwise.search import elimination
from sweepwise.search.elimination import Look
from sweepwise.search.strategy import Decision, Known, Step, Trial

USUAL_SEEDS = 20  # at most, where none are swept
NAMED = 3  # settings that a line names
GUARANTEE = (
    "where results are about normal, at most 5 % of races drop any setting for one that is no better; the "
    "intervals of the answer below are for numbers of seeds that were fixed beforehand, so after a race they "
    "only describe"
)


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
        race = _Race(self._settings, self._sign, known)
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


class _Race:
    """A race up to a look.

    Args:
        settings: the overrides of each.
        sign: 1 where lower values are better, -1 where higher ones are.
        known: the results of runs.

    Attributes:
        active: places of the settings that are left.
        seen: seeds of each that have been looked at.
        runs: that were asked for.
        best: the last look, at the settings that are left; None before the first, or without any value.
    """

    def __init__(self, settings: Sequence[tuple[str, ...]], sign: int, known: Known) -> None:
        self._names = list(map(name_of, settings))
        self._settings, self._sign, self._known = settings, sign, known
        self.active = list(range(len(settings)))
        self.seen = self.runs = 0
        self.best: Look | None = None
        self._gone: list[tuple[float, float]] = []  # variances of those that were dropped, with their df
        self._decisions: list[Decision] = []
        self._said = ""

    def take(self, seeds: Sequence[tuple[str, ...]], runs: int) -> None:
        """Looks at the settings that are left, and drops those that are surely worse.

        Args:
            seeds: the overrides of each seed so far.
            runs: that were asked for since the look before.
        """
        before, self.seen, self.runs = self.seen, len(seeds), self.runs + runs
        measured = np.array([[self._value(one, seed) for seed in seeds] for one in self.active])
        failed = np.isnan(measured).sum(axis=1)
        self._decisions, self._said, self.best = [], "", None
        if (failed == len(seeds)).all():
            return
        values = np.where(np.isnan(measured), np.nanmax(measured), measured)
        look = elimination.look(values, before, *np.array(self._gone).reshape(-1, 2).T)
        hopeless = (failed == len(seeds)) & (failed[look.best] < len(seeds))
        look = replace(look, p=np.where(hopeless, 0.0, look.p))
        gone = np.flatnonzero(look.dropped).tolist()
        self._decisions = [self._drop(look, one, int(failed[one])) for one in gone]
        worse, failing = len(gone) - int(hopeless.sum()), int(hopeless.sum())
        parts = [f"{_settings(worse)} dropped, surely worse than {self._name(look.best)}"] if worse else []
        parts += [f"{_settings(failing)} dropped, failed with all {len(seeds)} seeds"] if failing else []
        self._said = "; ".join(parts)
        of_all = elimination.variances(values)
        self._gone += [(float(of_all[one]), len(seeds) - 1.0) for one in gone if not failed[one]]
        self.active = [one for one, out in zip(self.active, look.dropped, strict=True) if not out]
        self.best = look.left()

    def _value(self, one: int, seed: tuple[str, ...]) -> float:
        """The result of a run, lower is better; nan for one that failed."""
        value = self._known[*self._settings[one], *seed].value
        return math.nan if value is None else self._sign * value

    def _name(self, place: int) -> str:
        """The name of one of the settings that were active at the last look."""
        return self._names[self.active[place]]

    def _drop(self, look: Look, place: int, failed: int) -> Decision:
        name, best = self._name(place), self._name(look.best)
        behind = float(look.behind[place])
        how = f"{failed} of {self.seen} runs failed" if failed else f"by {behind:.4g}"
        return Decision(
            "drop",
            f"{name} is worse than {best}: {how} after {self.seen} seeds",
            {
                "setting": name,
                "than": best,
                "seeds": self.seen,
                "behind": behind,
                "error": float(look.errors[place]),
                "p": float(look.p[place]),
                "level": look.level,
                "failed": failed,
            },
        )

    def going_on(self, new: Sequence[tuple[str, ...]], seeds: int) -> Step:
        """The step that asks for runs.

        Args:
            new: their overrides.
            seeds: of each setting, once they have ended.
        """
        settings = _settings(len(self.active))
        if not self.seen:
            why = f"{settings} with {seeds} seeds each"
            about = {"search": "racing", "settings": self._names, "seeds": seeds, "runs": len(new)}
            return Step((Decision("begin", why, about),), tuple(map(Trial, new)), (why,))
        why = f"{settings} undecided after {self.seen} seeds, each gets {seeds - self.seen} more"
        about = {"settings": [self._names[one] for one in self.active], "seeds": seeds, "runs": len(new)}
        said = f"{self._said}; {why}" if self._said else why
        return Step((*self._decisions, Decision("add", why, about)), tuple(map(Trial, new)), (said,))

    def end(self, why: str) -> Step:
        """The last step.

        Args:
            why: the race ends.
        """
        left = [self._names[one] for one in self.active]
        about = {"search": "racing", "left": left, "seeds": self.seen, "runs": self.runs}
        full = len(self._names) * self.seen
        cost = f"{self.runs} runs, where {self.seen} seeds of every setting are {full}"
        if self.best is None:
            return Step((*self._decisions, Decision("end", why, about)), said=(f"{why}; {cost}",))
        order = [left[place] for place in np.argsort(self.best.behind, kind="stable")]
        about |= {"best": order[0], "left": order}
        verdict = f"{why}: {order[0]}"
        if order[1:]:
            verdict += f", with {_listed(order[1:])} not surely worse"
        if dropped := len(self._names) - len(left):
            verdict += f"; {_settings(dropped)} dropped as surely worse"
        return Step((*self._decisions, Decision("end", why, about)), said=(f"{verdict}; {cost}", GUARANTEE))


def name_of(setting: Sequence[str]) -> str:
    """How a race names a setting."""
    return ",".join(setting) or "the default"


def _settings(number: int) -> str:
    return f"{number} setting{'s' if number != 1 else ''}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return " and ".join([*names[:NAMED], *([f"{more} more"] if more > 0 else [])])
