"""A search by a sampler of Optuna, which suggests points from what is known of those before.

Nothing is stored: a study in memory is asked and told in the same order again, and the same seed and the same
results give the same suggestions. So a search that is started again asks for the same runs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sweepwise.errors import reason
from sweepwise.search.brackets import Training
from sweepwise.search.limits import Limit, beyond, within
from sweepwise.search.measured import best, ending, reached, score, value_at
from sweepwise.search.optuna_journal import write
from sweepwise.search.optuna_study import OptunaSettings, drawn, quiet, study
from sweepwise.search.space import Overrides, Space
from sweepwise.search.strategy import Decision, Known, Result, Step, Trial
from sweepwise.search.words import listed, numbered

if TYPE_CHECKING:
    import optuna

MOST_IN_VAIN = 100  # suggestions in a row that were there already, before the search is at its end
LOST = ("diverged",)  # statuses that count as no better than the worst
WHOLE = Training(1)


class Optuna:
    """Asks for what a sampler suggests; a pruner may end points of a batch at rungs.

    Args:
        space: what is drawn from; at least one parameter.
        settings: which sampler and pruner, and how many points.
        training: of every run.
        limits: that the sampler is told to keep to.

    Raises:
        UsageError: Optuna, or what the sampler needs, is not installed; there is no rung.
    """

    def __init__(
        self,
        space: Space,
        settings: OptunaSettings,
        training: Training = WHOLE,
        limits: Sequence[Limit] = (),
    ) -> None:
        self._space, self._settings, self._training, self._limits = space, settings, training, limits
        self._rungs: tuple[int, ...] = ()
        if settings.pruner != "none":
            self._rungs = training.rungs(settings.eta, settings.min_epochs)
        self._begin()

    def _begin(self) -> None:
        self.study = study(self._settings, self._rungs, self._training.epochs)
        self._used: dict[tuple[Overrides, int | None], list[float]] = {}  # what decided, by run and epoch
        self._values: dict[Overrides, float | None] = {}  # by point
        self._excess: dict[Overrides, tuple[float, ...]] = {}  # of each limit, by point
        self._asked: list[tuple[optuna.Trial, Overrides]] = []  # of the batch that is not told yet
        self._pruned: set[Overrides] = set()  # of the batch
        self._dropped: set[Overrides] = set()  # of the batches before
        self._level = 0  # of its rungs
        self._exhausted = False
        self._news: list[Decision] = []
        self._last: Step | None = None

    def write_journal(self, path: Path) -> str:
        """Writes what the study was told, for Optuna's dashboard; why it could not, '' if it could."""
        settings = self._settings
        drawn_from = self._space.parameters, self._space.fixed
        what = (*drawn_from, settings.at_once, settings.pruner, self._rungs, *map(str, self._limits))
        digest = hashlib.sha256(repr(what).encode()).hexdigest()[:8]
        try:
            with quiet():
                write(path, self.study, f"{settings.sampler}, seed {settings.seed}, {digest}")
        except Exception as error:  # the search does without it
            return reason(error)
        return ""

    def next(self, known: Known) -> Step:
        """The next batch of suggestions, or those of a batch that go on: a function of seed and results."""
        if not all(
            run in known and all(map(_same, self._read(known[run], end), read))
            for (run, end), read in self._used.items()
        ):
            self._begin()
        with quiet():
            while batch := self._batch():
                end = self._rungs[self._level] if self._level < len(self._rungs) else None
                going = [point for point in batch if point not in self._pruned]
                trials = [
                    Trial(run, end)
                    for point in going
                    for run in self._space.runs(point)
                    if run not in known or not reached(known[run], end)
                ]
                if trials:
                    return self._last or self._step(batch, trials, end)
                self._last = None
                if going and end is not None:
                    self._judge(going, known, end)
                else:
                    self._tell(known)
        if not self._last:
            decision = self._end(known)
            self._last = Step((*self._news, decision), said=(decision.why,))
        return self._last

    def _step(self, batch: Sequence[Overrides], trials: Sequence[Trial], end: int | None) -> Step:
        first = len(self._values) + 1
        said = self._source(first, first + len(batch) - 1)
        if self._level:
            going = [" ".join(point) for point in batch if point not in self._pruned]
            said = f"{len(going)} of {len(batch)} points go on ({listed(going)})"
        else:
            self._news += [self._begun(number, point) for number, point in enumerate(batch, first)]
        said += f", to epoch {end}" if end is not None else ""
        self._last, self._news = Step(tuple(self._news), tuple(trials), (said,)), []
        return self._last

    def _batch(self) -> list[Overrides]:
        """The points that are asked for, each once; empty at the end."""
        settings = self._settings
        size = min(settings.at_once, settings.trials - len(self._values))
        in_vain = 0
        while not self._exhausted and len(batch := _distinct(self._asked)) < size:
            trial = self.study.ask()
            point = drawn(trial, self._space)
            if point in self._values:  # told at once what is known of it
                self._tell_one(trial, point)
            else:
                self._asked.append((trial, point))
            is_new = point not in self._values and point not in batch
            in_vain = 0 if is_new else in_vain + 1
            distinct = len(self._values) + len(batch) + is_new
            self._exhausted = in_vain == MOST_IN_VAIN or distinct == self._space.size
        return _distinct(self._asked)

    def _judge(self, going: Sequence[Overrides], known: Known, end: int) -> None:
        """Asks the pruner who of a batch goes on from a rung; who has failed is left to the end."""
        for trial, point in self._asked:
            value = self._value(point, known, end) if point in going else None
            if value is None:
                continue
            trial.report(value, end)
            if point not in self._pruned and trial.should_prune():
                self._pruned.add(point)
                about = {"point": list(point), "epochs": end, "value": self._training.sign * value}
                why = f"stays at epoch {end}: {self._settings.pruner} has pruned it"
                self._news.append(Decision("drop", why, about))
        self._level += 1

    def _tell(self, known: Known) -> None:
        """Tells the study what became of the batch, in the order in which it was asked for."""
        from optuna.trial import TrialState

        points = _distinct(self._asked)
        whole = [point for point in points if point not in self._pruned]
        results = {point: [known[run] for run in self._space.runs(point)] for point in whole}
        self._values |= {
            point: self._value(point, known, None) if point in whole else None for point in points
        }
        worst = max((value for value in self._values.values() if value is not None), default=None)
        for point in whole:
            if self._values[point] is None and any(one.status in LOST for one in results[point]):
                self._values[point] = worst
        self._excess |= beyond(self._limits, results, self._excess)
        for trial, point in self._asked:
            if point in self._pruned:
                self.study.tell(trial, state=TrialState.PRUNED)
            else:
                self._tell_one(trial, point)
        self._dropped |= self._pruned
        self._asked, self._pruned, self._level = [], set(), 0

    def _tell_one(self, trial: optuna.Trial, point: Overrides) -> None:
        from optuna.trial import TrialState

        if (value := self._values[point]) is None:
            self.study.tell(trial, state=TrialState.FAIL)
            return
        for limit, excess in zip(self._limits, self._excess[point], strict=True):
            trial.set_constraint(limit.quantity, excess)
        self.study.tell(trial, value)

    def _value(self, point: Overrides, known: Known, end: int | None) -> float | None:
        """The mean of a point's runs at an epoch, lower is better; None if one of them has no value there."""
        runs = self._space.runs(point)
        self._used |= {(run, end): self._read(known[run], end) for run in runs}
        values = [value_at(known[run], end) for run in runs]
        return (
            self._training.sign * math.fsum(values) / len(values) if all(map(math.isfinite, values)) else None
        )

    def _read(self, result: Result, end: int | None) -> list[float]:
        """All of a result that decides something when a run has come to a rung, or to its end."""
        limited = [one.excess([result]) for one in self._limits if end is None]
        return [value_at(result, end), *(math.nan if one is None else one for one in limited)]

    def _begun(self, number: int, point: Overrides) -> Decision:
        about = {"point": list(point), "runs": len(self._space.replicates)}
        return Decision("begin", self._source(number, number), about)

    def _source(self, first: int, last: int) -> str:
        known = f"from {len(self._values)} that are known" if self._values else "before any is known"
        return f"{numbered(first, last)}, suggested by {self._settings.sampler} {known}"

    def _end(self, known: Known) -> Decision:
        """Names the best of the points that were trained to their end, the first one of equals."""
        tried = f"{len(self._values)} points have been tried"
        few = len(self._values) < self._settings.trials
        why = f"{tried}, and {self._settings.sampler} suggests no others" if few else f"all {tried}"
        about: dict[str, object] = {"points": len(self._values)}
        whole = [point for point in self._values if point not in self._dropped]
        if self._limits:
            sound = [point for point in whole if not score(self._space.runs(point), known, 1)[0]]
            kept, said, of_limits = within(self._limits, {point: self._excess[point] for point in sound})
            why, about = f"{why}, {said}", about | of_limits
            if not kept:
                return Decision("end", why, {**about, "best": None})
            whole = kept
        runs = [(point, self._space.runs(point)) for point in whole]
        return ending(why, best(runs, known, self._training.sign), about)


def _distinct(asked: Sequence[tuple[optuna.Trial, Overrides]]) -> list[Overrides]:
    return list(dict.fromkeys(point for _, point in asked))


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
