"""What a guided search has asked for, what that has cost, and what may still be spent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sweepwise.search.guided.account import Cost
from sweepwise.search.measured import Overrides
from sweepwise.search.strategy import PAUSED, Known, Result, Trial


@dataclass
class Ledger:
    """What has been asked for while a search is followed.

    Attributes:
        whole: epochs of a whole training.
        known: results of runs.
        asked: by run, to which epoch.
    """

    whole: int
    known: Known
    asked: dict[Overrides, int] = field(default_factory=dict)

    def end(self, trial: Trial) -> int:
        """The last epoch that a trial may train."""
        return self.whole if trial.epochs is None else trial.epochs

    def missing(self, trials: Iterable[Trial]) -> list[Trial]:
        """Those that go beyond what was asked for before."""
        return [one for one in trials if self.asked.get(one.overrides, 0) < self.end(one)]

    def ask(self, trials: Iterable[Trial]) -> None:
        """Counts trials as asked for."""
        self.asked |= {one.overrides: self.end(one) for one in self.missing(trials)}

    def answers(self, trial: Trial) -> bool:
        """Whether the result of a trial is known, as far as it was asked for."""
        result = self.known.get(trial.overrides)
        if result is None:
            return False
        return result.status != PAUSED or result.epochs >= self.end(trial) < self.whole

    def result(self, run: Overrides) -> Result:
        """What was known of a run when it had come as far as it has been asked for; not what followed."""
        end = self.asked[run]
        return self.known[run].up_to(end if end < self.whole else None)

    def is_whole(self, run: Overrides) -> bool:
        """Whether a run was asked for to its end."""
        return self.asked.get(run) == self.whole and run in self.known

    def value(self, run: Overrides) -> float | None:
        """Of a run that was asked for to its end and has one."""
        return self.known[run].value if self.is_whole(run) else None

    def price(self, trials: Iterable[Trial]) -> Cost:
        """What trials cost beyond what was asked for before, if none ends early."""
        missing = self.missing(trials)
        new = sum(one.overrides not in self.asked for one in missing)
        return Cost(new, sum(self.end(one) - self.asked.get(one.overrides, 0) for one in missing))

    @property
    def cost(self) -> Cost:
        """What has been asked for, as far as it was trained."""
        results = {run: self.known[run] for run in self.asked if run in self.known}
        epochs = {run: min(self.asked[run], result.epochs) for run, result in results.items()}
        seconds = _together(span for result in results.values() for span in result.spans)
        return Cost(len(self.asked), sum(epochs.values()), seconds)

    @property
    def seconds_an_epoch(self) -> float | None:
        """Of runs that were asked for to their end: later steps change nothing of these; None without."""
        whole = [self.known[run] for run in self.asked if self.is_whole(run)]
        epochs = sum(result.epochs for result in whole)
        return _together(span for result in whole for span in result.spans) / epochs if epochs else None


def _together(spans: Iterable[tuple[float, float]]) -> float:
    """How long some spans last, where those that overlap count once.

    Example:
        >>> _together([(0, 2), (1, 3), (5, 6)])
        4.0
    """
    seconds, until = 0.0, -math.inf
    for begin, end in sorted(spans):
        seconds += max(0.0, end - max(begin, until))
        until = max(until, end)
    return seconds


@dataclass(frozen=True)
class Limits:
    """What a search may cost at most; None: as much as it takes.

    Attributes:
        runs: that are begun.
        epochs: of all runs.
        minutes: in which runs are trained; those that are trained side by side count once.
    """

    runs: int | None = None
    epochs: int | None = None
    minutes: float | None = None


@dataclass(frozen=True)
class Purse:
    """What a stage may spend.

    Attributes:
        ledger: of the search so far.
        limits: of the whole search.
        share: of what is left when the stage begins, that it may use.
        before: what the stages before have cost.
    """

    ledger: Ledger
    limits: Limits
    share: float
    before: Cost

    def part(self, share: float) -> Purse:
        """A purse with a share of what is left in this one."""
        spent = self.ledger.cost
        runs = None if self.runs is None else spent.runs + int(share * self.runs)
        epochs = None if self.epochs is None else spent.epochs + int(share * self.epochs)
        return Purse(self.ledger, Limits(runs, epochs), 1.0, spent)

    @property
    def runs(self) -> int | None:
        """Runs that may still be begun; None: any number."""
        if self.limits.runs is None:
            return None
        part = self.share * (self.limits.runs - self.before.runs)
        return max(0, int(part) - (self.ledger.cost.runs - self.before.runs))

    @property
    def epochs(self) -> int | None:
        """Epochs that may still be trained; None: any number."""
        rate = self.ledger.seconds_an_epoch
        known = [self.limits.epochs] if self.limits.epochs is not None else []
        if self.limits.minutes is not None and rate:
            known.append(int(60 * self.limits.minutes / rate))
        if not known:
            return None
        part = self.share * (min(known) - self.before.epochs)
        return max(0, int(part) - (self.ledger.cost.epochs - self.before.epochs))

    @property
    def trainings(self) -> int | None:
        """Whole trainings of new runs that may still be asked for; None: any number."""
        epochs = None if self.epochs is None else self.epochs // self.ledger.whole
        known = [limit for limit in (self.runs, epochs) if limit is not None]
        return min(known) if known else None

    def holds(self, cost: Cost) -> bool:
        """Whether it has room for so many runs and epochs more."""
        runs, epochs = self.runs, self.epochs
        return (runs is None or cost.runs <= runs) and (epochs is None or cost.epochs <= epochs)

    def affords(self, trials: Sequence[Trial]) -> bool:
        """Whether it has room for these."""
        return self.holds(self.ledger.price(trials))
