"""What a person sees of a sweep on this machine while it runs.

A line for each run that ends; in a large sweep a line for several. On a terminal what trains now stands
below, elsewhere a line says so from time to time.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from sweepwise.store import record
from sweepwise.store.request import Request, known_folders
from sweepwise.sweep.outcome import Outcome, status
from sweepwise.sweep.reached import MOST_LOOKS, Reached, duration, reached, together
from sweepwise.sweep.summary import STATUS_LETTERS, counts, fits, line, names, number, rank
from sweepwise.system.console import on_terminal, wrapped

EACH = 20  # runs up to which each has a line of its own
LINES = 10  # of a larger sweep, approximately
SINGLED_OUT = 5  # runs of a larger sweep that failed or diverged and have a line of their own
PACE_SECONDS = 10.0  # that must have passed before it is said how long the rest takes
LOOK_SECONDS = 2.0  # between two looks at how far runs have come
QUIET_SECONDS = 30.0  # after which a line says so where there is no terminal; later less often
SLOWER = 6  # as many times this pause is the time that has passed
EPOCH = re.compile(r" at epoch \d+")  # the first that a narrow line does without
PROCESSES = 6  # of those that train now, that are shown


class Shown:
    """Prints how the runs of a sweep end, and how far those have come that train.

    Args:
        requests: the runs of the sweep, each once.
        clock: seconds.
        told: of a sweep that is trained step by step, what was said before; see `launch.train`.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        clock: Callable[[], float] = time.monotonic,
        told: set[str] | None = None,
    ) -> None:
        self._told_before = told
        self._whole = "all" if told is None else "this step"  # what its numbers are of
        self._names = names(requests)
        self._wanted = any(request.config["progress"] for request in requests)
        self._clock = clock
        self._began = self._printed = clock()
        self._looked = -math.inf
        self._ended: list[Outcome] = []
        self._told = self._single = 0
        self._best: Outcome | None = None
        self._running: list[Process] = []
        self._first: tuple[float, float] | None = None  # when an epoch had ended, and how much was done then
        self._live = _Live(len(requests), self._whole) if self._wanted and on_terminal() else None

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.close()
        self._tell(whole=True)

    def say(self, key: str, text: str) -> None:
        """Prints news about the whole sweep, under a keyword: see `Observer.say`."""
        self._tell(whole=True)
        if self._told_before is not None:
            if key == "plan" or text in self._told_before:
                return
            self._told_before.add(text)
        if self._wanted:
            self._print(wrapped(key, text))

    def started(self, requests: Sequence[Request]) -> None:
        """Takes the runs that a process has begun to train."""
        self._forget(requests)
        self._running.append(Process(requests))

    def ended(self, outcome: Outcome) -> None:
        """Takes a run that has ended."""
        self._forget([outcome.request])
        self._ended.append(outcome)

    def tick(self) -> None:
        """Prints what is due, and redraws what stands below."""
        self._tell()
        now = self._clock()
        if not self._wanted or now - self._looked < LOOK_SECONDS:
            return
        self._looked, spent = now, now - self._began
        if self._live:
            self._live.show(len(self._ended), *self._standing(spent))
        elif self._running and now - self._printed >= max(QUIET_SECONDS, spent / SLOWER):
            left, lines = self._standing(spent)
            said = f"{len(self._ended)} of {number(len(self._names))} ended"
            said += f", about {duration(left)} left in {self._whole}" if math.isfinite(left) else ""
            self._print(wrapped(f"{duration(spent)}", "; ".join([said, *lines])))

    def _print(self, text: str) -> None:
        print(text, flush=True)
        self._printed = self._clock()

    def _forget(self, requests: Sequence[Request]) -> None:
        for process in self._running:
            for request in requests:
                process.forget(request)
        self._running = [process for process in self._running if process.requests]

    def _standing(self, spent: float) -> tuple[float, list[str]]:
        """Seconds until all these runs have ended, approximately, and how far each process has come."""
        found = [(process, process.look()) for process in self._running]
        trained = sum(outcome.log is not None for outcome in self._ended)
        done = trained + sum(one.share for _, looks in found for one in looks if one)
        left = self._left(spent, done, len(self._names) - len(self._ended) + trained)
        lines = [f"{_runs(process, self._names)}: {together(looks)}" for process, looks in found[:PROCESSES]]
        if more := len(found) - PROCESSES:
            lines += [f"{more} more processes"] if more > 0 else []
        return left, lines

    def _left(self, spent: float, done: float, of: float) -> float:
        """Seconds until all is done, at the pace since the first epoch; not finite at the beginning."""
        if not self._first and done:
            self._first = spent, done
        if not self._first or spent - self._first[0] < PACE_SECONDS or done <= self._first[1]:
            return math.inf
        return (of - done) * (spent - self._first[0]) / (done - self._first[1])

    def _tell(self, whole: bool = False) -> None:
        """Prints the runs that have ended since: each, or several in a line once they are enough, or all."""
        new, total = self._ended[self._told :], len(self._names)
        if not self._wanted or not new or self._told_before is not None:
            return
        if total <= EACH:
            for place, outcome in enumerate(new, self._told + 1):
                self._print(self._line(place, outcome))
        elif whole or len(new) >= total / LINES:
            for place, outcome in enumerate(new, self._told + 1):
                if status(outcome) in ("failed", "diverged") and outcome.log:
                    self._single += 1
                    if self._single <= SINGLED_OUT:
                        self._print(self._line(place, outcome))
            self._print(self._several(new))
        else:
            return
        self._told = len(self._ended)

    def _line(self, place: int, outcome: Outcome) -> str:
        total = len(self._names)
        head = f"{place:>{len(str(total))}}/{total}  {status(outcome):<{STATUS_LETTERS}}"
        name, tail = self._names[_key(outcome.request)], _result(outcome)
        return line(head, name, tail if fits(head, name, tail) else EPOCH.sub("", tail))

    def _several(self, new: Sequence[Outcome]) -> str:
        """Runs that have ended, in a line: how, by when, and the best of the sweep so far."""
        total = len(self._names)
        self._best = min(filter(None, [self._best, *new]), key=_rank)
        when = duration(self._clock() - self._began) if any(one.log for one in new) else "before"
        head = (
            f"{len(self._ended):>{len(str(total))}}/{total}  {counts([status(one) for one in new])}, {when}"
        )
        known = {} if _rank(self._best)[0] else self._best.record
        return f"{head}; best {record.best(known, '.4g')}" if known else head


class Process:
    """A process that trains now.

    Args:
        requests: its runs.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self._requests = {_key(request): request for request in requests}
        self._folders: dict[str, tuple[Path, Any]] = {}  # by a run's id; its folder and its last attempt

    @property
    def requests(self) -> Collection[Request]:
        """Those of its runs that have not ended."""
        return self._requests.values()

    def forget(self, request: Request) -> None:
        """Takes a run away, if it is one of these."""
        self._requests.pop(_key(request), None)

    def look(self) -> list[Reached | None]:
        """How far its runs have come; of very many those that it began first."""
        requests = list(itertools.islice(self.requests, MOST_LOOKS))
        if new := [request for request in requests if request.id not in self._folders]:
            there = known_folders(new[0].home)
            for request in new:
                if request.id in there and (attempt := _attempt(there[request.id])):
                    self._folders[request.id] = there[request.id], attempt
        now = time.time()
        return [self._look(request, now) for request in requests]

    def _look(self, request: Request, now: float) -> Reached | None:
        if request.id not in self._folders:
            return None
        folder, attempt = self._folders[request.id]
        return reached(folder, request.config["trainer"], attempt, now)


def _attempt(folder: Path) -> dict[str, Any]:
    """The attempt at a run that trains now; {} before it has begun."""
    with contextlib.suppress(OSError, ValueError):  # the run itself says what is wrong with its record
        for attempt in record.read(folder).get("attempts", [])[-1:]:
            return attempt if attempt["status"] == "running" else {}
    return {}


def _runs(process: Process, all_names: dict[tuple[Path, str], str]) -> str:
    """The runs of a process: their number, or the name of one."""
    first, *more = process.requests
    return f"{1 + len(more)} runs" if more else all_names[_key(first)]


def _key(request: Request) -> tuple[Path, str]:
    return request.home, request.id


def _rank(outcome: Outcome) -> tuple[bool, float]:
    return rank(outcome.record, outcome.request.config["early_stop"].get("mode", "auto"))


def _result(outcome: Outcome) -> str:
    """The best value of a run that has ended, and how long it took."""
    known = outcome.record
    if not known:
        return ""
    seconds = "before"
    if outcome.log and "seconds" in known:
        seconds = f"{known['seconds']:.1f} s"
        seconds += (
            f" with {outcome.others} other{'s' if outcome.others > 1 else ''}" if outcome.others else ""
        )
    return "  ".join(filter(None, [record.best(known, ".4g"), seconds]))


class _Live:
    """What stands below on a terminal: drawn only on request, as no other thread may run when it forks.

    Lines that are printed appear above it.

    Args:
        total: runs.
        whole: what they are: 'all', or 'this step' of a search.
    """

    def __init__(self, total: int, whole: str) -> None:
        from rich.live import Live

        self._total, self._whole = total, whole
        self._began = time.monotonic()
        self._live = Live(auto_refresh=False, transient=True)
        self._live.start()

    def show(self, ended: int, left: float, lines: Sequence[str]) -> None:
        """Draws a bar of all runs, and a line for each process."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        bar = Table.grid(padding=(0, 1))
        spent = duration(time.monotonic() - self._began)
        after = f", about {duration(left)} left in {self._whole}" if math.isfinite(left) else ""
        said = f"{ended}/{self._total} ended, {spent}{after}"
        bar.add_row(ProgressBar(total=self._total, completed=ended, width=10), Text(said))
        below = [Text(text, no_wrap=True, overflow="ellipsis") for text in lines]
        self._live.update(Group(bar, *below), refresh=True)

    def close(self) -> None:
        """Takes it away."""
        self._live.stop()
