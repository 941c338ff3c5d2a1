"""Trainings that die again and again, at random times or at one operation on the disk.

Whatever an attempt left in its folder the next one goes on from, until the run has ended; then it is compared
with one that was left alone.
"""

import random
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sweepwise.errors import Failure
from sweepwise.store import record
from sweepwise.store.request import Request
from sweepwise.store.status import ended
from sweepwise.system import signals
from sweepwise.verify.compare import Difference, compare
from sweepwise.verify.fault_injection import Death, When, die_at, forked

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
OUTPUT = "output.txt"


@dataclass(frozen=True)
class Alone:
    """A training that was left alone.

    Attributes:
        folder: of its run.
        seconds: that it took.
        operations: by which it changed the disk.
    """

    folder: Path
    seconds: float
    operations: int


@dataclass
class Survivor:
    """A training that was not.

    Attributes:
        folder: of its run.
        deaths: those that came before it had ended.
        starts: attempts until then.
        differences: from the one that was left alone.
    """

    folder: Path
    deaths: list[Death] = field(default_factory=list)
    starts: int = 0
    differences: list[Difference] = field(default_factory=list)


class Unexpected(Failure):
    """An attempt has ended as none should."""


def deaths(draw: random.Random, alone: Alone) -> Iterator[Death]:
    """Deaths of every kind, without end: half of them by time, a third by a signal that can be answered."""
    while True:
        kind = draw.choice(SIGNALS) if draw.random() < 1 / 3 else signal.SIGKILL
        if draw.random() < 0.5:
            yield Death(kind, seconds=draw.uniform(0, 1.1 * alone.seconds))
        else:
            when: When = draw.choice(("before", "half", "after"))
            yield Death(kind, operation=draw.randrange(alone.operations), when=when)


def leave_alone(train: Callable[[Request], Any], request: Request, scratch: Path) -> Alone:
    """Trains a run without a disturbance.

    Args:
        train: trains it and returns what has an exit code; `sweepwise.run.train`.
        request: the run.
        scratch: an empty folder to train in.

    Raises:
        Unexpected: it did not come to an end.
    """
    request = elsewhere(request, scratch)
    told = scratch / "operations"

    def counted() -> None:
        counter = die_at(Death())
        train(request)
        told.write_text(str(next(counter)))

    code = forked(counted, output=scratch / OUTPUT)
    known = record.read(request.folder)
    if code or not ended(known):
        raise Unexpected(f"left alone it ends with exit code {code}:\n{_last(scratch)}")
    return Alone(request.folder, known["seconds"], int(told.read_text()))


def survive(
    train: Callable[[Request], Any], request: Request, scratch: Path, alone: Alone, coming: Iterator[Death]
) -> Survivor:
    """Trains a run through deaths, and compares it with the one that was left alone.

    Args:
        train: see `leave_alone`.
        request: the run.
        scratch: an empty folder to train in.
        alone: the same run, left alone.
        coming: one for each attempt; when they are used up, it is left alone.

    Raises:
        Unexpected: an attempt ended neither by its death nor by itself.
    """
    request = elsewhere(request, scratch)
    survivor = Survivor(request.folder)
    while not ended(record.read(request.folder)):
        death = next(coming, None)
        code = forked(lambda: sys.exit(train(request).exit_code), death, scratch / OUTPUT)
        survivor.folder, survivor.starts = request.folder, survivor.starts + 1
        if code not in _expected(death):
            raise Unexpected(f"exit code {code} after {death or 'no death'}:\n{_last(scratch)}")
        if death and code:
            survivor.deaths.append(death)
    survivor.differences = compare(alone.folder, survivor.folder)
    return survivor


def _expected(death: Death | None) -> tuple[int, ...]:
    """The exit codes of an attempt: a signal that can be answered is, and a run may end before it comes."""
    if death is None:
        return (0,)
    if death.signal == signal.SIGKILL:
        return 0, -signal.SIGKILL
    return 0, signals.exit_code(death.signal)


def elsewhere(request: Request, folder: Path, **settings: Mapping[str, Any]) -> Request:
    """The same run in the folder of another.

    Args:
        request: the run.
        folder: to train in.
        settings: keys of groups, by group, that get another value.
    """
    quiet = {"output_dir": str(folder), "fresh": False, "accept_changes": False, "progress": False}
    changed = {group: {**request.config[group], **values} for group, values in settings.items()}
    return replace(request, config={**request.config, **quiet, **changed})


def _last(scratch: Path, lines: int = 20) -> str:
    """What an attempt has said at last."""
    said = (scratch / OUTPUT).read_text(errors="replace").splitlines()
    return "\n".join([*said[-lines:], f"(in {scratch})"])
