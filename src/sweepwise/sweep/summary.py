"""What a person sees of a sweep: a line for each run that ends, and a summary at the end."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sweepwise.errors import UNTRIED
from sweepwise.store import record
from sweepwise.store.status import ENDED
from sweepwise.sweep.outcome import status
from sweepwise.system.console import command_to_continue, on_terminal, wrapped

if TYPE_CHECKING:
    from sweepwise.store.request import Request
    from sweepwise.sweep.outcome import Outcome


NOT_BEGUN = "not begun"
ORDER = (  # in which statuses are listed
    *ENDED,
    *("running", "queued", "ending", "interrupted", NOT_BEGUN),
    *("failed", *UNTRIED.values()),
)
STATUS_LETTERS = max(map(len, ORDER)) + 1
NAME_LETTERS = 24  # that at least remain of a run's name on a line


class Shown:
    """Prints a line for each run that ends; on a terminal with a progress bar of the sweep below.

    Args:
        requests: the runs of the sweep, each once.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self._names = names(requests)
        self._ended = 0
        wanted = any(request.config["progress"] for request in requests)
        self._wanted = wanted
        self._bar = _Bar(len(requests)) if wanted and on_terminal() else None

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.close()

    def say(self, key: str, text: str) -> None:
        """Prints news about the whole sweep, under a keyword: see `Observer.say`."""
        if self._wanted:
            print(wrapped(key, text), flush=True)

    def ended(self, outcome: Outcome) -> None:
        """Prints a line for a run that has ended."""
        self._ended += 1
        if self._wanted:
            total = len(self._names)
            head = f"{self._ended:>{len(str(total))}}/{total}  {status(outcome):<{STATUS_LETTERS}}"
            name = self._names[outcome.request.home, outcome.request.id]
            print(line(head, name, _result(outcome)), flush=True)
        self.tick()

    def tick(self) -> None:
        """Redraws the progress bar."""
        if self._bar:
            self._bar.show(self._ended)


class _Bar:
    """rich's progress bar, drawn only on request: no other thread may run when processes are forked.

    Lines that are printed appear above it.
    """

    def __init__(self, total: int) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = BarColumn(bar_width=10), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
        self._progress = Progress(*columns, auto_refresh=False, transient=True)
        self._task = self._progress.add_task("", total=total)
        self._progress.start()

    def show(self, ended: int) -> None:
        self._progress.update(self._task, completed=ended, refresh=True)

    def close(self) -> None:
        self._progress.stop()


def names(requests: Sequence[Request]) -> dict[tuple[Path, str], str]:
    """A short name for each run: the overrides that not all runs have; the folder of a single run."""
    common = set.intersection(*(set(request.overrides) for request in requests)) if requests[1:] else set()
    return {
        (request.home, request.id): ",".join(
            word for word in request.overrides if requests[1:] and word not in common
        )
        or request.folder.name
        for request in requests
    }


def line(head: str, name: str, tail: str) -> str:
    """A run in one line. Where that is wider than the terminal, the beginning of the name is left out.

    On a narrow terminal it takes several lines instead, and nothing is left out.
    """
    whole = f"{head}{name}  {tail}".rstrip()
    columns = shutil.get_terminal_size().columns
    if not on_terminal() or len(whole) <= columns:
        return whole
    room = columns - len(head) - len(tail) - 3
    if room < NAME_LETTERS:
        return textwrap.fill(whole, columns, subsequent_indent="    ")
    return f"{head}...{name[3 - room :]}  {tail}".rstrip()


def best(known: Mapping[str, Any]) -> str:
    """The best value in a record, and its epoch; '' if there is none."""
    entry = known.get("best")
    if not entry or entry["value"] is None:
        return ""
    return f"{entry['metric']} {entry['value']:.4g} at epoch {entry['epoch']}"


def _result(outcome: Outcome) -> str:
    """The best value of a run that has ended, and how long it took."""
    known = record.read(outcome.request.folder) if status(outcome) in ENDED else {}
    seconds = f"{known['seconds']:.1f} s" if outcome.log and "seconds" in known else "before"
    return "  ".join(filter(None, [best(known), seconds if known else ""]))


def number(runs: int) -> str:
    """A number of runs, as text: '1 run', '2,000 runs'."""
    return f"{runs:,} run{'s' if runs != 1 else ''}"


def counts(statuses: Sequence[str]) -> str:
    """How many runs have each status."""
    count = Counter(statuses)
    return ", ".join(f"{count[word]:,} {word}" for word in ORDER if count[word])


def described(sweep: object, statuses: Sequence[str]) -> str:
    """A sweep in one line."""
    return f"{sweep}: {number(len(statuses))}: {counts(statuses)}"


def tell(outcomes: Sequence[Outcome], requests: Sequence[Request]) -> None:
    """Prints how a sweep on this machine has ended; failures go to the standard error output.

    Args:
        outcomes: of the runs that were started, or had ended before.
        requests: all runs of the sweep, each once.
    """
    homes = ", ".join(dict.fromkeys(str(request.home) for request in requests))
    statuses = [status(outcome) for outcome in outcomes]
    not_begun = [NOT_BEGUN] * (len(requests) - len(outcomes))
    print(wrapped("sweep", described(homes, [*statuses, *not_begun])), flush=True)
    run_names = names(requests)
    failures: dict[tuple[str, ...], list[Outcome]] = {}  # by status and last lines, which many may share
    for word, outcome in zip(statuses, outcomes, strict=True):
        if word == "failed" or outcome.exit_code in UNTRIED:
            failures.setdefault((word, *outcome.last), []).append(outcome)
    for (word, *last), alike in failures.items():
        name = run_names[alike[0].request.home, alike[0].request.id]
        more = f" and {len(alike) - 1:,} more" if alike[1:] else ""
        for key, text in [(word, f"{name}{more}"), *(("", f"  {text}") for text in last)]:
            print(wrapped(key, text), file=sys.stderr)
        if alike[0].log:
            print(wrapped("", f"  in {alike[0].log}"), file=sys.stderr, flush=True)
    if not_begun or "interrupted" in statuses:
        print(wrapped("to go on", command_to_continue()), flush=True)
