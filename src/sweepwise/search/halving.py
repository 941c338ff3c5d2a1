"""Successive halving, hyperband, asynchronous halving: of settings after few epochs the best go on.

A rung is an epoch of the full-length training, so schedules keep their horizon: who is not promoted has
paused there, and can still be trained to its end.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import insort
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from sweepwise.config.ranges import Range
from sweepwise.errors import UsageError
from sweepwise.search.brackets import Bracket, Plan, dealt, hyperband, rungs
from sweepwise.search.standing import Score, Standing
from sweepwise.search.strategy import PAUSED, Decision, Known, Result, Step, Trial

Overrides = tuple[str, ...]
_Job = tuple[Standing, int, int]  # a setting, and the rung to which it is trained
WELL = ("finished", "stopped early")


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


@dataclass(frozen=True)
class Training:
    """What is known of every run before it is trained.

    Attributes:
        epochs: of its whole training.
        validate_every: epochs between two values of the metric.
        sign: 1 where lower values are better, -1 where higher ones are.
    """

    epochs: int
    validate_every: int = 1
    sign: int = 1


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
        self.plan = Plan(self._brackets(), training.epochs, most, options.at_once is None)

    def _brackets(self) -> tuple[Bracket, ...]:
        options, every = self._options, self._training.validate_every
        first = -(-options.min_epochs // every) * every  # the first epoch from there on that is validated
        ends = rungs(self._training.epochs, options.eta, first)
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
                score = self._score(setting, half.end(rung), known)
                insort(half.scores[rung], score)
                if score[0] > (half.score(setting, rung - 1)[0] if rung else 0):
                    decisions.append(self._failed(setting, half.end(rung), score))
        return self._step([*decisions, *self._dropped(halves), self._end(halves)])

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

    def _score(self, setting: int, end: int | None, known: Known) -> Score:
        values = [value_at(known[run], end) for run in self._settings[setting]]
        good = [self._training.sign * value for value in values if math.isfinite(value)]
        mean = math.fsum(good) / len(good) if good else math.inf
        return 1 - len(good) / len(values), mean, setting

    def _about(self, setting: int, end: int | None) -> dict[str, object]:
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

    def _end(self, halves: Sequence[Standing]) -> Decision:
        scores = sorted(score for half in halves for score in half.scores[-1] if score[0] < 1)
        if not scores:
            return Decision("end", "no setting has come to its end with a value", {"best": None})
        _, mean, setting = scores[0]
        best = {"best": self._about(setting, None)["setting"], "value": self._training.sign * mean}
        total = len(self._settings)
        return Decision(
            "end", f"{len(scores)} of {total} settings trained to the end; the best of them", best
        )


def reached(result: Result, end: int | None) -> bool:
    """Whether a run has come as far, or can come no further."""
    if result.status != PAUSED:
        return True
    return end is not None and max(result.epochs, *result.curve, 0) >= end


def value_at(result: Result, end: int | None) -> float:
    """The metric of a run at an epoch, as it was measured last; of one that had ended before what it kept.

    What became of it later counts for nothing: a search that is started again must decide as it did.
    """
    if end is not None and max(result.curve, default=0) >= end:
        return result.curve.get(max((epoch for epoch in result.curve if epoch <= end), default=0), math.nan)
    return math.nan if result.status not in WELL or result.value is None else result.value


def said(decisions: Sequence[Decision]) -> Iterator[str]:
    """What a person reads of some decisions: the plan, each advice, a line of all runs, and the end."""
    yield from (one.why for one in decisions if one.what in ("plan", "advise"))
    words = {
        "begin": ("begin, to epoch", "begins, to epoch"),
        "promote": ("go on to epoch", "goes on to epoch"),
        "fail": ("failed before epoch",) * 2,
    }
    counts = Counter((one.what, one.about["epochs"]) for one in decisions if one.what in words)
    if counts:
        yield ", ".join(
            f"{count} {words[what][count == 1]} {epochs}" for (what, epochs), count in counts.items()
        )
    for one in decisions:
        if one.what == "end":
            best = one.about["best"]
            yield f"{one.why}: {' '.join(best)}, {one.about['value']:.4g}" if best else one.why
