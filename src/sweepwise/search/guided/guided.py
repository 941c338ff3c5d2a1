"""The recommended order as one search: stages that are followed one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from sweepwise.config.ranges import Range
from sweepwise.errors import UsageError, did_you_mean
from sweepwise.search.guided import early_stop, final, init, regularizer, scheduler, seed
from sweepwise.search.guided.account import Account, Chapter, Cost
from sweepwise.search.guided.course import Course, run_of, told
from sweepwise.search.guided.ledger import Ledger, Limits, Purse
from sweepwise.search.guided.stage import Question, Stage, State
from sweepwise.search.measured import Overrides
from sweepwise.search.strategy import Decision, Known, Step, Trial
from sweepwise.search.words import counted

STAGES: Mapping[str, Stage] = {
    "seed": seed.course,
    "init": init.course,
    "scheduler": scheduler.course,
    "regularizer": regularizer.course,
    "early_stop": early_stop.course,
    "final": final.course,
}
# Of a budget, in parts of what all stages that follow get: early stopping trains nothing.
FEW = 25  # whole trainings, below which not every stage can compare
WEIGHTS = {"seed": 11, "init": 11, "scheduler": 33, "regularizer": 28, "early_stop": 0, "final": 17}


@dataclass(frozen=True)
class GuidedSettings:
    """Keys of hydra/sweeper=guided.

    Args:
        stages: in their order; one that is left out decides nothing, one that is named again is repeated.
        runs: at most; null: as many as it takes.
        epochs: of all runs, at most.
        minutes: in which runs are trained, at most; those that are trained side by side count once.
        seeds: with which the first stage measures how much they matter.
        margin: the largest difference that does not matter, in the metric's unit; null: one twentieth of the
            default's value.
        save: conf/experiment/NAME.yaml is written; null: no.

    Raises:
        UsageError: there is no such stage, or none at all.
    """

    stages: tuple[str, ...] = tuple(STAGES)
    runs: Annotated[int, Range(1)] | None = None
    epochs: Annotated[int, Range(1)] | None = None
    minutes: Annotated[float, Range(0, open_low=True)] | None = None
    seeds: Annotated[int, Range(1)] = 5
    margin: Annotated[float, Range(0, open_low=True)] | None = None
    save: str | None = None

    def __post_init__(self) -> None:
        shown = f"hydra.sweeper.stages=[{','.join(self.stages)}]"
        faults = [
            f"{shown}: there is no stage {name!r}; {did_you_mean(name, STAGES)}"
            for name in dict.fromkeys(self.stages)
            if name not in STAGES
        ]
        if not self.stages:
            faults.append(f"{shown}: must name a stage or more of {','.join(STAGES)}")
        if "final" in self.stages[:-1]:
            faults.append(f"{shown}: final must be the last stage, and once, as it tells what was decided")
        if faults:
            raise UsageError(faults)

    @property
    def limits(self) -> Limits:
        """What all of it may cost."""
        return Limits(self.runs, self.epochs, self.minutes)


class Guided:
    """Follows the stages.

    Args:
        question: what is searched.
        settings: the keys of the sweeper.

    Raises:
        UsageError: the budget has no room for one training.
    """

    def __init__(self, question: Question, settings: GuidedSettings) -> None:
        whole = question.training.epochs
        if settings.epochs is not None and settings.epochs < whole:
            raise UsageError([f"hydra.sweeper.epochs={settings.epochs}: one training has {whole}; give more"])
        self._question, self._settings = question, settings

    def next(self, known: Known) -> Step:
        """See `Strategy.next`.

        All stages are followed from the beginning. What they ask for is asked once: a run that an earlier
        step has asked for is known to the later ones, and what was decided before it is not told again.
        """
        ledger = Ledger(self._question.training.epochs, known)
        decisions: list[Decision] = []
        said: list[str] = []
        for step in self._course(ledger):
            decisions += step.decisions
            said += step.said
            if missing := ledger.missing(step.trials):
                ledger.ask(missing)
                if not all(map(ledger.answers, missing)):
                    return Step(tuple(decisions), tuple(missing), tuple(said))
                decisions, said = [], []
        return Step(tuple(decisions), said=tuple(said))

    def account(self, known: Known) -> Account:
        """What the search has found, as far as results are known.

        Args:
            known: the results of all its runs.
        """
        ledger = Ledger(self._question.training.epochs, known)
        course = self._course(ledger)
        state = State()
        while True:
            try:
                ledger.ask(next(course).trials)
            except StopIteration as end:
                state = end.value
                return self._account(state, ledger)

    def _course(self, ledger: Ledger) -> Course[State]:
        """All stages; returns what they have decided."""
        state = State()
        yield self._plan()
        if self._settings.minutes is not None:  # how long does a run take?
            yield Step(
                (), (Trial(run_of((), self._question.full, 0)),), ("the default once, for the time it takes",)
            )
        names = self._settings.stages
        for place, name in enumerate(names):
            before = ledger.cost
            left = sum(WEIGHTS[one] for one in names[place:])
            purse = Purse(ledger, self._settings.limits, WEIGHTS[name] / left if left else 0.0, before)
            state = yield from STAGES[name](self._question, state, purse)
            chapter = replace(state.chapters[-1], cost=_between(before, ledger.cost))
            state = replace(state, chapters=(*state.chapters[:-1], chapter))
            yield told(name, _decided(chapter))
        return state

    def _plan(self) -> Step:
        settings = self._settings
        limits = {
            key: value
            for key in ("runs", "epochs", "minutes")
            if (value := getattr(settings, key)) is not None
        }
        budget = " and ".join(f"{value:,} {key}" for key, value in limits.items()) or "as much as it takes"
        why = (
            f"{', '.join(settings.stages)}; at most {budget}"
            if limits
            else f"{', '.join(settings.stages)}; {budget}"
        )
        about = {"search": "guided", "stages": list(settings.stages), **limits}
        return Step((Decision("plan", why, about),), said=(why, *self._question.notes, *self._few()))

    def _few(self) -> Iterator[str]:
        """What is to be told of a small budget."""
        limits, whole = self._settings.limits, self._question.training.epochs
        rooms = [limits.runs, None if limits.epochs is None else limits.epochs // whole]
        room = min((one for one in rooms if one is not None), default=FEW)
        if room < FEW:
            way_out = "name fewer stages, as in hydra.sweeper.stages=[scheduler,final], or give more"
            what = f"the budget has room for {counted(room, 'whole training')}"
            yield f"{what}, so some stages decide nothing; {way_out}"

    def _account(self, state: State, ledger: Ledger) -> Account:
        whole = len(state.chapters) == len(self._settings.stages)
        return Account(
            metric=self._question.metric,
            sign=self._question.training.sign,
            chapters=state.chapters,
            found=state.overrides,
            fresh=state.fresh,
            chosen=self._fresh(state, ledger, state.overrides),
            default=self._fresh(state, ledger, ()),
            ended="all stages are over" if whole else "it was ended before",
            cost=ledger.cost,
        )

    def _fresh(self, state: State, ledger: Ledger, setting: Overrides) -> dict[int, float]:
        values = {seed: ledger.value(run_of((), setting, seed)) for seed in state.fresh}
        return {seed: value for seed, value in values.items() if value is not None}


def _decided(chapter: Chapter) -> Step:
    about = {
        "question": chapter.question,
        "decided": chapter.decided,
        "overrides": list(chapter.overrides),
        "open": chapter.left_open,
        "runs": chapter.cost.runs,
        "epochs": chapter.cost.epochs,
    }
    said = [f"{chapter.decided}: {chapter.how}"]
    said += [f"open: {chapter.left_open}"] if chapter.left_open else []
    return Step((Decision("decide", chapter.how, about),), said=tuple(said))


def _between(before: Cost, after: Cost) -> Cost:
    seconds = max(0.0, after.seconds - before.seconds)
    return Cost(after.runs - before.runs, after.epochs - before.epochs, seconds)
