"""A sweep on this machine: trains its runs in the pool and shows the person how they end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol

from sweepwise.config.ranges import Range
from sweepwise.errors import REFUSED, REPORTED, UNTRIED, Failure, Untried, UsageError
from sweepwise.store.claim import holder
from sweepwise.store.request import Request
from sweepwise.sweep import closing
from sweepwise.sweep.cluster.jobs import GONE, State
from sweepwise.sweep.cluster.ledger import Ledger
from sweepwise.sweep.cluster.overview import states
from sweepwise.sweep.cluster.settings import unread_group_size
from sweepwise.sweep.local import pool
from sweepwise.sweep.outcome import Outcome
from sweepwise.sweep.shown import Shown
from sweepwise.sweep.summary import tell, tell_answer, tell_tensorboard

if TYPE_CHECKING:
    from sweepwise.results.table import Table


FLAGS = ("progress", "report", "mean_runs")  # keys of a config that decide what is said at the end


@dataclass(frozen=True)
class LocalSettings:
    """Keys of hydra/launcher=local.

    Args:
        max_parallel: processes at a time; null: one a GPU, or as many as the cores have threads for.
        fuse: whether runs that differ in numbers only are trained as one program.
        group_size: the most runs of such a program; null: as many as are fastest.

    Raises:
        UsageError: `group_size` is given without `fuse`.
    """

    max_parallel: Annotated[int, Range(1)] | None = None
    fuse: bool = True
    group_size: Annotated[int, Range(1)] | None = None

    def __post_init__(self) -> None:
        if unread := unread_group_size(self.fuse, self.group_size):
            raise UsageError([f"hydra.launcher.{unread}"])


def train(
    requests: Sequence[Request],
    settings: LocalSettings,
    *,
    answered: bool = True,
    told: set[str] | None = None,
    watcher: Watcher | None = None,
) -> Iterator[tuple[Request, float | Exception | None]]:
    """Trains runs and shows how they end; yields each with its best value, or the error why there is none.

    Args:
        requests: the runs.
        settings: of the launcher.
        answered: whether what they say together is printed at the end.
        told: of a sweep that is trained step by step, what was said before and is not said again; then
            neither the plan nor the end of each run is shown.
        watcher: is told of each run once when it starts and once when it has ended.

    Raises:
        Stopped: a signal came; all runs that had started have made a checkpoint.
        OSError: a log cannot be written.
    """
    distinct = list({(request.home, request.id): request for request in requests}.values())
    observer = _Reporter(distinct, watcher, told)
    try:
        with observer.shown:
            outcomes = pool.train_all(
                requests,
                max_parallel=settings.max_parallel,
                fuse=settings.fuse,
                group_size=settings.group_size,
                observer=observer,
            )
    finally:
        if observer.outcomes:
            tell(observer.outcomes, distinct, whole=told is None)
            if answered:
                _tell_end(observer.outcomes, distinct)
    for outcome in outcomes:
        yield outcome.request, _value(outcome)


def _tell_end(outcomes: Sequence[Outcome], requests: Sequence[Request]) -> None:
    """Prints what the runs say together, and completes what TensorBoard shows of them."""
    homes = list(dict.fromkeys(request.home for request in requests))
    config = {key: any(request.config.get(key, True) for request in requests) for key in FLAGS}

    def say() -> Table | None:
        runs = tell_answer(outcomes, requests)  # held until all has been said
        written = len(requests) < 2 or tell_tensorboard(homes, config["mean_runs"])
        return runs if written else None

    if any(outcome.exit_code in UNTRIED for outcome in outcomes):  # for reasons beside the runs' folders
        say()
    else:
        closing.tell(homes, [config, sorted(request.id for request in requests)], say)


class Watcher(Protocol):
    """Follows the runs of a sweep."""

    def started(self, request: Request) -> None:
        """Takes a run that is about to start, or to go on in a smaller group."""

    def ended(self, request: Request, value: float | Exception | None) -> None:
        """Takes a run that has ended, with its best value, or the error why there is none."""


class _Reporter:
    """The pool's observer: shows a sweep on the terminal, and knows who else trains its runs.

    Args:
        requests: the runs of the sweep, each once.
        watcher: is told of each run; None: nobody is.
        told: see `train`.

    Attributes:
        shown: what the person sees.
        outcomes: of the runs that have ended, in that order.
    """

    def __init__(self, requests: Sequence[Request], watcher: Watcher | None, told: set[str] | None) -> None:
        self._watcher = watcher
        self.outcomes: list[Outcome] = []
        homes = {request.home for request in requests}
        placed = {(home, run): job for home in homes for run, job in Ledger(home).placed().items()}
        keys = {(request.home, request.id) for request in requests}
        self._placed = {key: placed[key] for key in placed if key in keys}
        self._states: Mapping[str, State] = {}
        with contextlib.suppress(Failure):  # there is no cluster here
            self._states = states(self._placed.values())
        self.shown = Shown(requests, told=told)

    def other_trainer(self, request: Request) -> str:
        """Names the process that trains a run, or the cluster's job that will; '' if there is none."""
        if who := holder(request.folder):
            return f"{request.folder} is being trained by {who}"
        placed = self._placed.get((request.home, request.id))
        if placed and self._states.get(placed.job, GONE).live:
            return f"{request.folder} will be trained by the cluster's job {placed.job}"
        return ""

    def say(self, key: str, text: str) -> None:
        """Shows news about the whole sweep."""
        self.shown.say(key, text)

    def started(self, requests: Sequence[Request]) -> None:
        """Shows that runs begin, and tells the watcher."""
        self.shown.started(requests)
        if self._watcher:
            for request in requests:
                self._watcher.started(request)

    def ended(self, outcome: Outcome) -> None:
        """Shows that a run has ended."""
        self.outcomes.append(outcome)
        self.shown.ended(outcome)
        if self._watcher:
            self._watcher.ended(outcome.request, _value(outcome))

    def tick(self) -> None:
        """Shows how far the runs have come."""
        self.shown.tick()


def _value(outcome: Outcome) -> float | Exception | None:
    if known := outcome.record:
        value: float | None = known["best"]["value"]
        return value
    error: Exception = UsageError(outcome.last)
    if outcome.exit_code != REFUSED:
        kind = Untried if outcome.exit_code in UNTRIED else Failure
        error = kind("\n".join(outcome.last))
    error.add_note(REPORTED)
    return error
