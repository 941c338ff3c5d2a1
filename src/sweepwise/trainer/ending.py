"""How the end of a run reaches the disk: its last checkpoint and its logs first, then its record."""

from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol

from sweepwise.errors import reason
from sweepwise.store.record import Record
from sweepwise.store.shape import ENDED
from sweepwise.store.takeover import TakenOver
from sweepwise.system.atomic import Durable
from sweepwise.trainer.run import Run


class Log(Protocol):
    """What is logged of a run while it trains."""

    def close(self, status: str) -> list[Path]:
        """Writes all that is left; returns the files, which the caller brings to the disk."""
        ...


class LastCheckpoint(Protocol):
    """The checkpoint with which a run ends."""

    def ending(self, *, for_good: bool) -> Durable:
        """See `sweepwise.checkpoint.Checkpoints.ending`."""
        ...

    def close(self) -> None:
        """Ends the thread that writes, if there is one."""
        ...


def ending(
    run: Run, log: Record, monitor: Log, checkpoints: LastCheckpoint, *, failing: bool = False
) -> Durable:
    """Writes the end of a run; killed before its record is in place, it goes on from its last checkpoint.

    Args:
        run: its status and its results.
        log: its record.
        monitor: its logs.
        checkpoints: where its last weights are, written aside.
        failing: whether an error has ended it; then those of closing are dropped, since a person must see the
            first one. Otherwise they make it fail.

    Raises:
        OSError: something could not be written.
        TakenOver: another process has taken the run over.
    """
    try:
        with ExitStack() as undo:
            undo.callback(checkpoints.close)
            logs = monitor.close(run.status)
            last = undo.enter_context(closing(checkpoints.ending(for_good=run.status in ENDED)))
            yield [*logs, *next(last)]
            in_place = [*next(last)]
            record = undo.enter_context(closing(log.ending(run.status, run.reason, **run.outcome())))
            yield [*in_place, *next(record)]
            yield next(record)
            next(last, None)  # now it removes what the run needs no more
    except Exception as error:
        if log.fields["status"] == "running":
            known = run.status in ("failed", "interrupted")
            status, why = (run.status, run.reason) if known else ("failed", reason(error))
            yield from log.ending(status, why, **run.outcome())
        if not failing or not isinstance(error, (OSError, TakenOver)):
            raise
