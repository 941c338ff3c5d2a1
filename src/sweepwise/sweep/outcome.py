"""The outcome of a run of a sweep: its exit code, status and last lines."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweepwise.errors import UNTRIED
from sweepwise.store import record
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
        known: what its record says of its end, see `told`; None: it is read when it is asked for.
    """

    request: Request
    exit_code: int
    log: Path | None = None
    last: Sequence[str] = ()
    others: int = 0
    known: Mapping[str, Any] | None = None

    @property
    def record(self) -> Mapping[str, Any]:
        """The record of a run that has ended, or what of it is `told`; {} of any other."""
        if status(self) not in EXIT_CODES:
            return {}
        return record.read(self.request.folder) if self.known is None else self.known


def told(known: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a run that has ended: of its record the status, the best value and the seconds."""
    kept = {key: known[key] for key in ("status", "seconds") if key in known}
    best = known.get("best")
    return {**kept, "best": best and {key: best[key] for key in ("metric", "value", "epoch")}}


def status(outcome: Outcome) -> str:
    """The status of a run that this machine trained, in a word."""
    if outcome.exit_code in UNTRIED:
        return UNTRIED[outcome.exit_code]
    with contextlib.suppress(OSError):  # the run itself reports what is wrong with its record
        known = outcome.known
        recorded = current_status(outcome.request.folder) if known is None else known["status"]
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
