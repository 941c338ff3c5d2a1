"""What a search asks for and what it is told: a strategy is a pure function of the results that are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

PAUSED = "pruned"  # the status of a run that has paused


@dataclass(frozen=True)
class Trial:
    """A run that a search asks for.

    Attributes:
        overrides: of the run, such as 'optimizer.lr=0.1'; they say which run it is.
        epochs: after which it pauses; None: it is trained to its end.
    """

    overrides: tuple[str, ...]
    epochs: int | None = None


@dataclass(frozen=True)
class Result:
    """What is known of a run.

    Attributes:
        status: how it stands: 'finished', 'stopped early', 'pruned', 'diverged', 'failed' ...
        value: of the metric, with the weights that it keeps; None if it has none.
        curve: the metric after each epoch that measured it, from 1 for the first epoch.
        epochs: that it has trained.
        spans: when it was trained: of each attempt the first and the last moment, in seconds.
        train: the same metric on the training part, at the epoch of the weights that it keeps; None if it was
            not measured.
        metrics: other quantities of its record by name, of the weights that it keeps: metrics of the
            validation part such as 'val/accuracy', NaN where they are not finite, and 'parameters'.
    """

    status: str
    value: float | None = None
    curve: Mapping[int, float] = field(default_factory=dict)
    epochs: int = 0
    spans: tuple[tuple[float, float], ...] = ()
    train: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long it was trained."""
        return sum(end - begin for begin, end in self.spans)

    def up_to(self, end: int | None) -> Result:
        """What was known of it after so many epochs, as of a run that pauses there; None: all of it."""
        if end is None or self.epochs <= end:
            return self
        curve = {epoch: value for epoch, value in self.curve.items() if epoch <= end}
        return Result(PAUSED, None, curve, end, self.spans)


Known = Mapping[tuple[str, ...], Result]  # by the overrides of a run


@dataclass(frozen=True)
class Decision:
    """Something that a search has decided; a line of its log.

    Attributes:
        what: 'begin', 'promote', 'drop', 'end' ...
        why: in words.
        about: the run or the setting that it is about, and the numbers that led to it; values of JSON.
    """

    what: str
    why: str
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """What a strategy decides at once.

    Attributes:
        decisions: go to the log.
        trials: the runs that are trained next; none: the search is at its end.
        said: of all that, what a person reads: one line or two; of the last step as many as the end needs.
    """

    decisions: tuple[Decision, ...]
    trials: tuple[Trial, ...] = ()
    said: tuple[str, ...] = ()


class Strategy(Protocol):
    """Decides what is trained next."""

    def next(self, known: Known) -> Step:
        """The next step of the search.

        The same results give the same step, so a search that is started again decides as before, and runs
        that an earlier sweep has trained count as if it had asked for them.

        Args:
            known: the results of all trials of the steps before, each as it was when its step was over.
        """
