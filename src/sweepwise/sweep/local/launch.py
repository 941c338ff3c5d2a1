"""A sweep on this machine: trains its runs in the pool and shows the person how they end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from sweepwise.config.ranges import Range
from sweepwise.errors import REFUSED, REPORTED, Failure, UsageError
from sweepwise.store import record
from sweepwise.store.claim import holder
from sweepwise.store.request import Request
from sweepwise.store.status import ENDED
from sweepwise.sweep.cluster.jobs import GONE, State
from sweepwise.sweep.cluster.ledger import Ledger
from sweepwise.sweep.cluster.overview import states
from sweepwise.sweep.local import pool
from sweepwise.sweep.outcome import Outcome, status
from sweepwise.sweep.summary import Shown, tell


@dataclass(frozen=True)
class LocalSettings:
    """Keys of hydra/launcher=local.

    Args:
        max_parallel: processes at a time; null: one a GPU, or as many as the cores have threads for.
        fuse: whether runs that differ in numbers only are trained as one program.
        group_size: the most runs of such a program; null: as many as are fastest.
    """

    max_parallel: Annotated[int, Range(1)] | None = None
    fuse: bool = True
    group_size: Annotated[int, Range(1)] | None = None


def train(
    requests: Sequence[Request], settings: LocalSettings
) -> Iterator[tuple[Request, float | Exception | None]]:
    """Trains runs and shows how they end; yields each with its best value, or the error why there is none.

    Raises:
        Stopped: a signal came; all runs that had started have made a checkpoint.
        OSError: a log cannot be written.
    """
    distinct = list({(request.home, request.id): request for request in requests}.values())
    observer = _Reporter(distinct)
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
            tell(observer.outcomes, distinct)
    for outcome in outcomes:
        yield outcome.request, _value(outcome)


class _Reporter:
    """The pool's observer: shows a sweep on the terminal, and knows who else trains its runs.

    Args:
        requests: the runs of the sweep, each once.

    Attributes:
        shown: what the person sees.
        outcomes: of the runs that have ended, in that order.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self.outcomes: list[Outcome] = []
        homes = {request.home for request in requests}
        placed = {(home, run): job for home in homes for run, job in Ledger(home).placed().items()}
        keys = {(request.home, request.id) for request in requests}
        self._placed = {key: placed[key] for key in placed if key in keys}
        self._states: Mapping[str, State] = {}
        with contextlib.suppress(Failure):  # there is no cluster here
            self._states = states(self._placed.values())
        self.shown = Shown(requests)

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

    def ended(self, outcome: Outcome) -> None:
        """Shows that a run has ended."""
        self.outcomes.append(outcome)
        self.shown.ended(outcome)

    def tick(self) -> None:
        """Redraws the progress bar."""
        self.shown.tick()


def _value(outcome: Outcome) -> float | Exception | None:
    if status(outcome) in ENDED:
        return record.read(outcome.request.folder)["best"]["value"]
    refused = outcome.exit_code == REFUSED
    error = UsageError(outcome.last) if refused else Failure("\n".join(outcome.last))
    error.add_note(REPORTED)
    return error
