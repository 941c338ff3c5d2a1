"""A sweep on this machine: its runs in the pool, and what the person sees of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
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
        group_size: of those at most; null: as many as are fastest.
    """

    max_parallel: Annotated[int, Range(1)] | None = None
    fuse: bool = True
    group_size: Annotated[int, Range(1)] | None = None


def train(
    requests: Sequence[Request], settings: LocalSettings
) -> Iterator[tuple[Request, float | Exception | None]]:
    """Trains runs and tells of them; yields each with its best value, or why there is none.

    Raises:
        Stopped: a signal came; all runs that had begun have made a checkpoint.
        OSError: nothing can be written.
    """
    distinct = list({(request.home, request.id): request for request in requests}.values())
    outcomes: list[Outcome] = []

    def ended(outcome: Outcome) -> None:
        outcomes.append(outcome)
        shown.ended(outcome)

    try:
        with Shown(distinct) as shown:
            found = pool.train_all(
                requests,
                max_parallel=settings.max_parallel,
                fuse=settings.fuse,
                group_size=settings.group_size,
                elsewhere=_elsewhere(distinct),
                said=shown.say,
                told=ended,
                tick=shown.tick,
            )
    finally:
        if outcomes:
            tell(outcomes, distinct)
    for outcome in found:
        yield outcome.request, _value(outcome)


def _elsewhere(requests: Sequence[Request]) -> Callable[[Request], str]:
    """Says who else has a run: a process that trains it, or a job of a cluster's that will."""
    homes = {request.home for request in requests}
    placed = {(home, run): place for home in homes for run, place in Ledger(home).placed().items()}
    placed = {key: placed[key] for request in requests if (key := (request.home, request.id)) in placed}
    standing: Mapping[str, State] = {}
    with contextlib.suppress(Failure):  # there is no cluster here
        standing = states(placed.values())

    def told(request: Request) -> str:
        if who := holder(request.folder):
            return f"{request.folder} is being trained by {who}"
        place = placed.get((request.home, request.id))
        live = place and standing.get(place.job, GONE).live
        return f"{request.folder} is to be trained by the cluster's job {place.job}" if place and live else ""

    return told


def _value(outcome: Outcome) -> float | Exception | None:
    if status(outcome) in ENDED:
        return record.read(outcome.request.folder)["best"]["value"]
    refused = outcome.exit_code == REFUSED
    error = UsageError(outcome.last) if refused else Failure("\n".join(outcome.last))
    error.add_note(REPORTED)
    return error
