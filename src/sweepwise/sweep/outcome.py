"""What has become of the runs of a sweep."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sweepwise.errors import UNTRIED
from sweepwise.store.request import Request
from sweepwise.store.status import ENDED, current_status
from sweepwise.system import signals

LAST_LINES = 5


@dataclass(frozen=True)
class Outcome:
    """What became of a run of a sweep.

    Attributes:
        request: the run.
        exit_code: of its process, as train.py's, or one of `UNTRIED`; below 0: it was killed by that signal.
        log: what it printed; None: it was not begun.
        last: the last lines of that; or why it was not begun.
    """

    request: Request
    exit_code: int
    log: Path | None = None
    last: Sequence[str] = ()


def status(outcome: Outcome) -> str:
    """What became of a run of this machine's, in a word."""
    if outcome.exit_code in UNTRIED:
        return UNTRIED[outcome.exit_code]
    with contextlib.suppress(OSError):  # the run itself says what is wrong with its record
        told = current_status(outcome.request.folder)
        if outcome.exit_code == ENDED.get(told):  # else something is to be asked about it
            return told
    return "interrupted" if outcome.exit_code > signals.SIGNALLED else "failed"


def last_lines(log: Path) -> list[str]:
    """What was printed into a log at last."""
    try:
        return last_of(log.read_text(errors="replace"))
    except OSError:
        return []


def last_of(text: str) -> list[str]:
    """The last lines of a text that say something."""
    return [line for line in text.splitlines() if line.strip(" ^~")][-LAST_LINES:]
