"""Successive halving, hyperband, asynchronous halving: of settings after few epochs the best go on.

A rung is an epoch of the full-length training, so schedules keep their horizon: who is not promoted has
paused there, and can still be trained to its end.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from sweepwise.config.ranges import Range
from sweepwise.errors import UsageError
from sweepwise.search.brackets import Bracket, Plan, Training, dealt, hyperband
from sweepwise.search.measured import Overrides, Score, best, ending, reached, score
from sweepwise.search.standing import Standing
from sweepwise.search.strategy import Decision, Known, Step, Trial
from sweepwise.search.words import listed

_Job = tuple[Standing, int, int]  # a setting, and the rung to which it is trained


@dataclass(frozen=True)
class HalvingSettings:
    """Keys of hydra/sweeper=halving.

    Args:
        eta: one of this many settings goes on from a rung.
        min_epochs: the first rung; the others are eta, eta^2 ... times as many epochs.
        brackets: 1: all settings begin at the first rung; more: others begin at later ones, in hyperband's
            proportions, for those that are slow at first; null: as many as can be, the last without rungs.
        at_once: runs after which it is decided who goes on (asynchronous halving); null: all of a rung.
        seed: of the order in which settings begin, and of who begins where.
    """

    eta: Annotated[int, Range(2)] = 3
    min_epochs: Annotated[int, Range(1)] = 1
    brackets: Annotated[int, Range(1)] | None = 1
    at_once: Annotated[int, Range(1)] | None = None
    seed: Annotated[int, Range(0)] = 0


class Halving:
    """Compares settings at rungs, and trains on the best of each.

    A setting is promoted when it is among the best 1 / eta of those that have come to its rung, rounded down,
    whether others are still to come or not. Who is best at a rung is told by the share of runs that failed,
    then by the mean of the others at that epoch, then by the order of the settings. Where nobody would go on
    and no setting is at its end, the best of the highest rung does. With all of a rung at once that is
    successive halving.

    Args:
        settings: of each the overrides of its runs, which differ in their seeds.
        training: of every run.
        options: how they are halved.
        advice: what is said after the plan.

    Raises:
        UsageError: there are fewer than two settings, or no such rungs or brackets.

    Source: Jamieson and Talwalkar, arXiv:1502.07943, figure 3; Li et al., Hyperband, arXiv:1603.06560,
    algorithm 1; Li et al., arXiv:1810.05934, algorithm 2.
    """

    def __init__(
        self,
        settings: Sequence[Sequence[Overrides]],
        training: Training,
        options: HalvingSettings,
        advice: Sequence[str] = (),
    ) -> None:
        if len(settings) < 2:
            raise UsageError(["hydra/sweeper=halving: compares settings, so there must be two or more"])
        self._settings = [tuple(runs) for runs in settings]
        self._training, self._options = training, options
        self._advice, self._told = advice, set[str]()
        most = max(map(len, self._settings))
        exact = options.at_once is None
        self.plan = Plan(self._brackets(), training.epochs, most, exact, training.ended_by)

    def _brackets(self) -> tuple[Bracket, ...]:
        options = self._options
        ends = self._training.rungs(options.eta, options.min_epochs)
        levels = len(ends) + 1
        number = options.brackets or levels
        if number > levels:
            why = f"must be at most {levels}: the rungs are {', '.join(map(str, ends))} epochs, and the end"
            raise UsageError([f"hydra.sweeper.brackets={number}: {why}"])
        places = iter(self._order(plain=number == 1 and options.at_once is None))
        sizes = dealt(len(self._settings), hyperband(levels, options.eta)[:number])
        dealt_out = [tuple(next(places) for _ in range(size)) for size in sizes]
        return tuple(
            Bracket(ends[skipped:], own, options.eta) for skipped, own in enumerate(dealt_out) if own
        )

    def _order(self, *, plain: bool) -> list[int]:
        """The settings in a random order, as those of a grid that are near each other are alike."""
        places = range(len(self._settings))
        seed = self._options.seed
        return sorted(
            places, key=lambda p: "" if plain else hashlib.sha256(f"{seed}/{p}".encode()).hexdigest()
        )

    def next(self, known: Known) -> Step:
        """See `Strategy.next`. Follows the search from its beginning, as far as results are known.

        A decision that has been told is left out until the search begins anew, with nothing known.
        """
        if not known:
            self._told.clear()
        halves = [Standing(bracket) for bracket in self.plan.brackets]
        decisions = [Decision("plan", str(self.plan), {"epochs": self.plan.cost, "full": self.plan.full})]
        decisions += [Decision("advise", text) for text in self._advice]
        while jobs := self._batch(halves, decisions):
            trials = [trial for job in jobs for trial in self._trials(job, known)]
            if trials:
                return self._step(decisions, trials)
            for half, setting, rung in jobs:
                end = half.end(rung)
                found = score(self._settings[setting], known, self._training.sign, setting, end)
                insort(half.scores[rung], found)
                if found[0] > (half.score(setting, rung - 1)[0] if rung else 0):
                    decisions.append(self._failed(setting, end, found))
        return self._step([*decisions, *self._dropped(halves), self._end(halves, known)])

    def _step(self, decisions: Sequence[Decision], trials: Sequence[Trial] = ()) -> Step:
        """A step with the decisions that have not been told yet."""
        texts = {json.dumps([one.what, one.why, one.about]): one for one in decisions}
        new = tuple(one for text, one in texts.items() if text not in self._told)
        self._told |= texts.keys()
        return Step(new, tuple(trials), tuple(said(new)))

    def _batch(self, halves: Sequence[Standing], decisions: list[Decision]) -> list[_Job]:
        """What is trained next: as many settings as are decided at once."""
        most = self._options.at_once
        size = math.inf if most is None else max(1, most // self.plan.runs)
        jobs: list[_Job] = []
        for half in halves:
            own: list[_Job] = []
            while len(jobs) + len(own) < size and (job := half.job()):
                own.append((half, *job))
            if not own and len(jobs) < size and (job := half.last_one()):
                own.append((half, *job))
            jobs += own
        decisions += [self._begun(*job) for job in jobs]
        return jobs

    def _trials(self, job: _Job, known: Known) -> Iterator[Trial]:
        """The runs of a setting that have not come to a rung and still can."""
        half, setting, rung = job
        for run in self._settings[setting]:
            if (result := known.get(run)) is None or not reached(result, half.end(rung)):
                yield Trial(run, half.end(rung))

    def _about(self, setting: int, end: int | None) -> dict[str, Any]:
        runs = self._settings[setting]
        shared = [text for text in runs[0] if all(text in run for run in runs)]
        return {"setting": shared or list(runs[0]), "epochs": end or self._training.epochs}

    def _begun(self, half: Standing, setting: int, rung: int) -> Decision:
        about = self._about(setting, half.end(rung))
        if not rung:
            return Decision("begin", f"to epoch {about['epochs']}", about)
        score, scores = half.score(setting, rung - 1), half.scores[rung - 1]
        value = self._training.sign * score[1]
        why = f"number {scores.index(score) + 1} of {len(scores)} at epoch {half.end(rung - 1)}"
        return Decision("promote", why, {**about, "value": value})

    def _failed(self, setting: int, end: int | None, score: Score) -> Decision:
        runs = len(self._settings[setting])
        bad = round(score[0] * runs)
        which = "its run" if runs == 1 else f"{bad} of its {runs} runs"
        return Decision("fail", f"{which} failed, diverged or had no value", self._about(setting, end))

    def _dropped(self, halves: Sequence[Standing]) -> Iterator[Decision]:
        for half in halves:
            for rung, scores in enumerate(half.scores[:-1]):
                for place, (failed, mean, setting) in enumerate(scores):
                    if setting in half.promoted[rung]:
                        continue
                    end = half.end(rung)
                    value = None if failed == 1 else self._training.sign * mean
                    why = f"stays at epoch {end}: number {place + 1} of {len(scores)}"
                    yield Decision("drop", why, {**self._about(setting, end), "value": value})

    def _end(self, halves: Sequence[Standing], known: Known) -> Decision:
        whole = sorted(place for half in halves for failed, _, place in half.scores[-1] if failed < 1)
        if not whole:
            return Decision("end", "no setting has come to its end with a value", {"best": None})
        runs = [(tuple(self._about(place, None)["setting"]), self._settings[place]) for place in whole]
        why = f"{len(whole)} of {len(self._settings)} settings trained to the end"
        return ending(why, best(runs, known, self._training.sign), {})


def said(decisions: Sequence[Decision]) -> Iterator[str]:
    """What a person reads of some decisions: the plan, each advice, a line of all runs, and the end."""
    yield from (one.why for one in decisions if one.what in ("plan", "advise"))
    words = {
        "begin": ("begin, to epoch", "begins, to epoch"),
        "promote": ("go on to epoch", "goes on to epoch"),
        "fail": ("failed before epoch",) * 2,
    }
    found: dict[tuple[str, int], list[str]] = {}
    for one in decisions:
        if one.what in words:
            found.setdefault((one.what, one.about["epochs"]), []).append(" ".join(one.about["setting"]))
    if found:
        yield ", ".join(
            f"{len(names)} {words[what][len(names) == 1]} {epochs}"
            + (f" ({listed(names)})" if what != "begin" else "")
            for (what, epochs), names in found.items()
        )
    yield from (one.why for one in decisions if one.what == "end")
