"""Trains a run that is killed again and again, at random times or at single operations on the disk.

Each attempt resumes from what the last one left in the run's folder. When the run has ended, it is compared
with a reference: the same run, trained without interruption.
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
class Reference:
    """A training that was not interrupted.

    Attributes:
        folder: of its run.
        seconds: how long it took.
        operations: how many operations changed the disk.
    """

    folder: Path
    seconds: float
    operations: int


@dataclass
class Survivor:
    """A training that was killed again and again.

    Attributes:
        folder: of its run.
        deaths: those before it had ended.
        starts: number of attempts until then.
        differences: from the reference.
    """

    folder: Path
    deaths: list[Death] = field(default_factory=list)
    starts: int = 0
    differences: list[Difference] = field(default_factory=list)


class Unexpected(Failure):
    """An attempt has ended neither by itself nor by its death."""


def deaths(draw: random.Random, reference: Reference) -> Iterator[Death]:
    """Draws deaths for ever: half of them by time, a third by a signal that a training answers."""
    while True:
        kind = draw.choice(SIGNALS) if draw.random() < 1 / 3 else signal.SIGKILL
        if draw.random() < 0.5:
            yield Death(kind, seconds=draw.uniform(0, 1.1 * reference.seconds))
        else:
            when: When = draw.choice(("before", "half", "after"))
            yield Death(kind, operation=draw.randrange(reference.operations), when=when)


def train_reference(train: Callable[[Request], Any], request: Request, scratch: Path) -> Reference:
    """Trains a run without interruption.

    Args:
        train: trains it and returns an object with an `exit_code`; `sweepwise.run.train`.
        request: the run.
        scratch: an empty folder to train in.

    Raises:
        Unexpected: it has failed.
    """
    request = in_folder(request, scratch)
    count = scratch / "operations"

    def counted() -> None:
        counter = die_at(Death())
        train(request)
        count.write_text(str(next(counter)))

    code = forked(counted, output=scratch / OUTPUT)
    known = record.read(request.folder)
    if code or not ended(known):
        raise Unexpected(f"without interruption it exited with code {code}:\n{_last(scratch)}")
    return Reference(request.folder, known["seconds"], int(count.read_text()))


def survive(
    train: Callable[[Request], Any],
    request: Request,
    scratch: Path,
    reference: Reference,
    coming: Iterator[Death],
) -> Survivor:
    """Trains a run that is killed and started again until it ends, and compares it with the reference.

    Args:
        train: see `train_reference`.
        request: the run.
        scratch: an empty folder to train in.
        reference: the same run, trained without interruption.
        coming: a death for each attempt; when they are used up, the run is not killed any more.

    Raises:
        Unexpected: an attempt has ended neither by its death nor by itself.
    """
    request = in_folder(request, scratch)
    survivor = Survivor(request.folder)
    while not ended(record.read(request.folder)):
        death = next(coming, None)
        code = forked(lambda: sys.exit(train(request).exit_code), death, scratch / OUTPUT)
        survivor.folder, survivor.starts = request.folder, survivor.starts + 1
        if code not in _expected(death):
            raise Unexpected(f"exited with code {code} after {death or 'no death'}:\n{_last(scratch)}")
        if death and code:
            survivor.deaths.append(death)
    survivor.differences = compare(reference.folder, survivor.folder)
    return survivor


def _expected(death: Death | None) -> tuple[int, ...]:
    """The exit codes that an attempt may have: the run may also end before the signal comes."""
    if death is None:
        return (0,)
    if death.signal == signal.SIGKILL:
        return 0, -signal.SIGKILL
    return 0, signals.exit_code(death.signal)


def in_folder(request: Request, folder: Path, **settings: Mapping[str, Any]) -> Request:
    """The same run in another folder.

    Args:
        request: the run.
        folder: where it is trained.
        settings: by group, keys that get another value.
    """
    quiet = {"output_dir": str(folder), "fresh": False, "accept_changes": False, "progress": False}
    changed = {group: {**request.config[group], **values} for group, values in settings.items()}
    return replace(request, config={**request.config, **quiet, **changed})


def _last(scratch: Path, lines: int = 20) -> str:
    """The last lines that an attempt has printed."""
    printed = (scratch / OUTPUT).read_text(errors="replace").splitlines()
    return "\n".join([*printed[-lines:], f"(in {scratch})"])
