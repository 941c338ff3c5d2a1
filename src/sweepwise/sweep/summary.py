"""What a person sees of a sweep: a line for each run that ends, and at the end what became of all."""

from __future__ import annotations

import shutil
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sweepwise import record
from sweepwise.report import wrapped
from sweepwise.standing import ENDED

if TYPE_CHECKING:
    from sweepwise.sweep.pool import Outcome

LAST_LINES = 5
ORDER = (*ENDED, "running", "queued", "interrupted", "failed", "refused")  # in which statuses are told
STATUS_LETTERS = max(map(len, ORDER)) + 1


class Shown:
    """Tells of runs as they end; on a terminal with a bar below that shows how far the sweep is.

    Args:
        total: runs of the sweep.
        wanted: whether a person wants to see that.
    """

    def __init__(self, total: int, wanted: bool) -> None:
        self._total = total
        self._ended = 0
        self._wanted = wanted
        self._bar = _Bar(total) if wanted and sys.stdout.isatty() else None

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.close()

    def ended(self, outcome: Outcome) -> None:
        """Tells of a run that has ended."""
        self._ended += 1
        if self._wanted:
            count = f"{self._ended:>{len(str(self._total))}}/{self._total}"
            text = line(
                f"{count}  {status(outcome):<{STATUS_LETTERS}}", outcome.request.folder.name, _found(outcome)
            )
            if self._bar:
                self._bar.clear()
            print(text, flush=True)
        self.tick()

    def tick(self) -> None:
        """Moves the bar on."""
        if self._bar:
            self._bar.show(self._ended)


class _Bar:
    """rich's progress bar, which is drawn only when we say so: no thread draws while processes are forked."""

    def __init__(self, total: int) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
        self._progress = Progress(*columns, auto_refresh=False, transient=True)
        self._task = self._progress.add_task("", total=total)
        self._progress.start()

    def show(self, ended: int) -> None:
        self._progress.update(self._task, completed=ended, refresh=True)

    def clear(self) -> None:
        """Lines that are printed now stay above the bar; rich sees to that."""

    def close(self) -> None:
        self._progress.stop()


def line(head: str, name: str, tail: str) -> str:
    """A run in one line; on a terminal of its width, where the name gives way at its beginning."""
    if sys.stdout.isatty():
        room = max(shutil.get_terminal_size().columns - len(head) - len(tail) - 3, 12)
        name = name if len(name) <= room else f"...{name[3 - room :]}"
    return f"{head}{name}  {tail}".rstrip()


def status(outcome: Outcome) -> str:
    """What became of a run of this machine's, in a word."""
    if outcome.exit_code == 2:
        return "refused"
    told = record.standing(outcome.request.folder)
    if outcome.exit_code == ENDED.get(told):  # else something is to be asked about it
        return told
    return "interrupted" if outcome.exit_code > 128 else "failed"


def best(known: Mapping[str, Any]) -> str:
    """The best value that a record tells, and when."""
    found = known.get("best")
    if not found or found["value"] is None:
        return ""
    return f"{found['metric']} {found['value']:.4g} at epoch {found['epoch']}"


def _found(outcome: Outcome) -> str:
    known = record.read(outcome.request.folder) if outcome.exit_code in (0, 1) else {}
    seconds = f"{known['seconds']:.1f} s" if outcome.log and "seconds" in known else "before"
    return "  ".join(filter(None, [best(known), seconds if known else ""]))


def counts(statuses: Sequence[str]) -> str:
    """How many runs have each status."""
    number = Counter(statuses)
    return ", ".join(f"{number[word]} {word}" for word in ORDER if number[word])


def last_lines(log: Path) -> list[str]:
    """What was printed into a log at last."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [text for text in lines if text.strip()][-LAST_LINES:]


def tell(outcomes: Sequence[Outcome]) -> None:
    """Says what became of a sweep on this machine; failures go to the standard error output."""
    homes = ", ".join(dict.fromkeys(str(outcome.request.home) for outcome in outcomes))
    told = counts([status(outcome) for outcome in outcomes])
    print(wrapped("sweep", f"{homes}: {len(outcomes)} runs: {told}"), flush=True)
    for outcome in outcomes:
        word = status(outcome)
        if word in ("failed", "refused"):
            why = f": killed by {signal.Signals(-outcome.exit_code).name}" if outcome.exit_code < 0 else ""
            print(wrapped(word, f"{outcome.request.folder.name}{why}"), file=sys.stderr)
            for text in last_lines(outcome.log) if outcome.log else []:
                print(wrapped("", f"  {text}"), file=sys.stderr)
            print(wrapped("", f"  in {outcome.log}"), file=sys.stderr)
