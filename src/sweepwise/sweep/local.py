"""A sweep on this machine: its runs in the pool, and what the person sees of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from sweepwise import record
from sweepwise.failure import TOLD, Failure
from sweepwise.identity import Request
from sweepwise.schema import Range, UsageError
from sweepwise.standing import ENDED
from sweepwise.sweep import pool
from sweepwise.sweep.child import BAD_USAGE, Outcome
from sweepwise.sweep.summary import Shown, status, tell


@dataclass(frozen=True)
class Settings:
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
    requests: Sequence[Request], settings: Settings
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
                planned=shown.planned,
                told=ended,
                tick=shown.tick,
            )
    finally:
        if outcomes:
            tell(outcomes, distinct)
    for outcome in found:
        yield outcome.request, _value(outcome)


def _value(outcome: Outcome) -> float | Exception | None:
    if status(outcome) in ENDED:
        return record.read(outcome.request.folder)["best"]["value"]
    refused = outcome.exit_code == BAD_USAGE
    error = UsageError(outcome.last) if refused else Failure("\n".join(outcome.last))
    error.add_note(TOLD)
    return error
