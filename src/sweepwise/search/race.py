"""A race up to a look: what is left, what was dropped, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sweepwise.search import elimination
from sweepwise.search.elimination import Look
from sweepwise.search.measured import score, value_at
from sweepwise.search.shrinkage import variances
from sweepwise.search.strategy import Decision, Known, Step, Trial
from sweepwise.search.words import counted, listed, setting_named

HARDLY = (
    1e-9  # by this share a run that failed counts as worse than any, so of equal settings it wins nothing
)
GUARANTEE = (
    "where results are about normal, at most 5 % of races drop any setting for one that is no better; the "
    "intervals of the answer below are for numbers of seeds that were fixed beforehand, so after a race they "
    "only describe"
)


class Race:
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
        self._names = list(map(setting_named, settings))
        self._settings, self._sign, self._known = settings, sign, known
        self.active = list(range(len(settings)))
        self.seen = self.runs = 0
        self.best: Look | None = None
        self._seeds: Sequence[tuple[str, ...]] = ()
        self._gone: list[tuple[float, float]] = []  # variances of those that were dropped, with their df
        self._decisions: list[Decision] = []
        self._said = ""
        self._worse: list[str] = []  # names of those that were dropped so far
        self._failing: list[str] = []

    def take(self, seeds: Sequence[tuple[str, ...]], runs: int) -> None:
        """Looks at the settings that are left, and drops those that are surely worse.

        Args:
            seeds: the overrides of each seed so far.
            runs: that were asked for since the look before.
        """
        self._seeds = seeds
        before, self.seen, self.runs = self.seen, len(seeds), self.runs + runs
        measured = np.array([[self._value(one, seed) for seed in seeds] for one in self.active])
        failed = np.isnan(measured).sum(axis=1)
        self._decisions, self._said, self.best = [], "", None
        if (failed == len(seeds)).all():
            return
        beyond = HARDLY * np.nanmax(np.abs(measured)) or np.finfo(float).tiny
        values = np.where(np.isnan(measured), np.nanmax(measured) + beyond, measured)
        look = elimination.look(values, before, *np.array(self._gone).reshape(-1, 2).T)
        hopeless = (failed == len(seeds)) & (failed[look.best] < len(seeds))
        look = replace(look, p=np.where(hopeless, 0.0, look.p))
        gone = np.flatnonzero(look.dropped).tolist()
        self._decisions = [self._drop(look, one, int(failed[one])) for one in gone]
        worse = [self._name(one) for one in gone if not hopeless[one]]
        failing = [self._name(one) for one in gone if hopeless[one]]
        parts = [f"{listed(worse)} dropped, surely worse than {self._name(look.best)}"] if worse else []
        parts += [f"{listed(failing)} dropped, failed with all {len(seeds)} seeds"] if failing else []
        self._said = "; ".join(parts)
        self._worse, self._failing = [*self._worse, *worse], [*self._failing, *failing]
        of_all = variances(values)
        self._gone += [(float(of_all[one]), len(seeds) - 1.0) for one in gone if not failed[one]]
        self.active = [one for one, out in zip(self.active, look.dropped, strict=True) if not out]
        self.best = look.left()

    def _value(self, one: int, seed: tuple[str, ...]) -> float:
        """The result of a run, lower is better; nan for one that failed or diverged."""
        return self._sign * value_at(self._known[*self._settings[one], *seed], None)

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
        settings = counted(len(self.active), "setting")
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
        best = self._settings[self._names.index(order[0])]
        value = self._sign * score([(*best, *seed) for seed in self._seeds], self._known, self._sign)[1]
        about |= {"best": order[0], "value": value, "left": order}
        verdict = f"{why}: {order[0]}, {value:.4g}"
        if order[1:]:
            verdict += f", with {listed(order[1:])} not surely worse"
        verdict += f"; {listed(self._worse)} dropped as surely worse" if self._worse else ""
        verdict += f"; {listed(self._failing)} dropped, as all runs failed" if self._failing else ""
        return Step((*self._decisions, Decision("end", why, about)), said=(f"{verdict}; {cost}", GUARANTEE))
