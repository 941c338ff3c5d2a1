"""What the stages of a guided search share: the question, what is decided, what is known beforehand."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sweepwise.search.guided.account import Chapter, Compared
from sweepwise.search.guided.course import Course, key_of, merged, run_of
from sweepwise.search.guided.ledger import Ledger, Purse
from sweepwise.search.halving import Training
from sweepwise.search.measured import Overrides
from sweepwise.search.words import counted

Family = tuple[Overrides, ...]  # variants of one option, the plain one first
SEVERAL = 2  # values from which a deviation is known


class Untrained(Protocol):
    """What can be told of settings without training them; the same settings give the same answer."""

    def refused(self, overrides: Overrides) -> str:
        """Why they cannot be trained, in words; '' if they can."""

    def complaints(self, overrides: Overrides) -> Sequence[str]:
        """What is wrong with the network at its start, in words."""

    def rate(self, overrides: Overrides) -> float | str:
        """The learning rate that a range test suggests, or why it suggests none."""


@dataclass(frozen=True)
class Candidates:
    """What the stages choose from; () is what the run has without them.

    Attributes:
        inits: settings of the initialisation.
        schedules: of each schedule the variants, such as without and with a warm-up.
        rates: learning rates that a person has listed; () to find them.
        bounds: of the learning rate: how far it may be changed, and where it is sensible to begin.
        rate: of the default; None: it has none, or it is fixed.
        regularizers: of each one its strengths.
        beyond: by the override of an outermost strength the one that lies beyond it, by that the next.
    """

    inits: tuple[Overrides, ...] = ()
    schedules: tuple[Family, ...] = ()
    rates: tuple[float, ...] = ()
    bounds: tuple[float, float] = (1e-4, 1e-1)
    rate: float | None = None
    regularizers: tuple[Family, ...] = ()
    beyond: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """What a guided search is about.

    Attributes:
        metric: by which runs are compared.
        training: of every run.
        candidates: what the stages choose from.
        untrained: tells what can be told without training.
        seeds: with which the first stage measures how much they matter.
        margin: the largest difference that does not matter, in the metric's unit; None: one twentieth of the
            default's value.
        splits: whether another split can be drawn.
        given: stage -> what a person has decided of it, such as 'init=xavier'.
        full: overrides that train to the last epoch and keep the best weights.
        notes: what a person is to be told before, in words.
    """

    metric: str
    training: Training
    candidates: Candidates
    untrained: Untrained
    seeds: int = 5
    margin: float | None = None
    splits: bool = True
    given: Mapping[str, str] = field(default_factory=dict)
    full: Overrides = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """What is decided so far.

    Attributes:
        overrides: of the settings.
        seeds: of each setting in comparisons.
        deviation: of a run between seeds, in the metric's unit; None: not known.
        chapters: of the stages that are over.
        fresh: seeds of the last stage; () before.
    """

    overrides: Overrides = ()
    seeds: int = 1
    deviation: float | None = None
    chapters: tuple[Chapter, ...] = ()
    fresh: tuple[int, ...] = ()

    def parted(self, *keys: str) -> tuple[State, Overrides]:
        """The state without what an earlier stage has decided of some keys, or of keys below them; and that.

        A stage that is repeated decides anew: () is again what the run has without any choice.
        """
        own = tuple(
            one for one in self.overrides if any(f"{key_of(one)}.".startswith(f"{key}.") for key in keys)
        )
        return replace(self, overrides=tuple(one for one in self.overrides if one not in own)), own

    def after(self, chapter: Chapter, **changes: Any) -> State:
        """The state with one more stage over."""
        together = merged(self.overrides, chapter.overrides)
        return replace(self, overrides=together, chapters=(*self.chapters, chapter), **changes)


def to_the_end(question: Question, overrides: Overrides) -> Overrides:
    """Settings, trained to the last epoch whatever they say of early stopping."""
    return merged((one for one in overrides if not key_of(one).startswith("early_stop")), question.full)


Stage = Callable[[Question, State, Purse], Course[State]]


def compared(
    ledger: Ledger, base: Overrides, settings: Iterable[Overrides], seeds: Sequence[int], sign: int
) -> list[Compared]:
    """Settings with the values of their whole trainings, the best mean first; without values last."""
    rows = []
    for setting in settings:
        runs = {seed: run_of(base, setting, seed) for seed in seeds}
        runs = {seed: run for seed, run in runs.items() if ledger.is_whole(run)}
        found = {seed: ledger.value(run) for seed, run in runs.items()}
        values = {seed: value for seed, value in found.items() if value is not None and math.isfinite(value)}
        bad = [ledger.known[runs[seed]].status for seed in runs if seed not in values]
        note = f"{len(bad)} of {counted(len(runs), 'run')} {bad[0]}" if bad else ""
        rows.append(Compared(setting, values, note=note))
    return sorted(rows, key=lambda row: _rank(row, sign))


def distinct(ranking: Sequence[Compared]) -> list[Compared]:
    """A ranking without settings whose trainings are those of another one: what they set never acted.

    Of several the shortest is kept.
    """
    kept: dict[tuple[tuple[int, float], ...], Compared] = {}
    for row in sorted(ranking, key=lambda row: len(row.overrides)):
        kept.setdefault(tuple(sorted(row.values.items())) or ((id(row), 0.0),), row)
    return [row for row in ranking if any(row is one for one in kept.values())]


def _rank(row: Compared, sign: int) -> tuple[bool, bool, float]:
    """Those without a failed run come first, then by the mean."""
    if not row.values:
        return True, True, 0.0
    return False, bool(row.note), sign * statistics.fmean(row.values.values())


def mean(row: Compared) -> float:
    """Of the values of a setting that has some."""
    return statistics.fmean(row.values.values())


def named(setting: Overrides) -> str:
    """A setting in words."""
    return " ".join(setting) or "the default"
