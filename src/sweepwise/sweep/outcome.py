"""The outcome of a run of a sweep: its exit code, status and last lines."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sweepwise.errors import UNTRIED
from sweepwise.store.request import Request
from sweepwise.store.status import EXIT_CODES, current_status
from sweepwise.system import signals

LAST_LINES = 5


@dataclass(frozen=True)
class Outcome:
    """How a run of a sweep has ended.

    Attributes:
        request: the run.
        exit_code: of its process, as train.py's, or one of `UNTRIED`; below 0: minus the signal it died of.
        log: the file into which it printed; None: it was not started.
        last: the last lines of that file; or why the run was not started.
        others: how many runs the same process trained with it, as one program.
    """

    request: Request
    exit_code: int
    log: Path | None = None
    last: Sequence[str] = ()
    others: int = 0


def status(outcome: Outcome) -> str:
    """The status of a run that this machine trained, in a word."""
    if outcome.exit_code in UNTRIED:
        return UNTRIED[outcome.exit_code]
    with contextlib.suppress(OSError):  # the run itself reports what is wrong with its record
        recorded = current_status(outcome.request.folder)
        if outcome.exit_code == EXIT_CODES.get(recorded):  # else the process failed after the run had ended
            return recorded
    return "interrupted" if outcome.exit_code > signals.SIGNALLED else "failed"


def last_lines(log: Path) -> list[str]:
    """The last lines of a log; none if it cannot be read."""
    try:
        return last_of(log.read_text(errors="replace"))
    except OSError:
        return []


def last_of(text: str) -> list[str]:
    """The last lines of a text that are more than blanks and markers."""
    return [line for line in text.splitlines() if line.strip(" ^~")][-LAST_LINES:]
