"""Trainings that die: in forked children, at random times or at one operation on the disk, again and again.

A child is forked after all imports, so that an attempt costs little more than its steps. Whatever it left in
its folder the next one goes on from, until the run has ended; then it is compared with one that was left
alone.
"""

import functools
import itertools
import os
import random
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

from sweepwise import interrupt, record
from sweepwise.compare import Difference, compare
from sweepwise.failure import Failure
from sweepwise.record import Request
from sweepwise.standing import ended

# How a process changes a disk, by the names of `os`; pathlib and shutil go through them too.
CHANGING = ("open", "write", "fsync", "ftruncate", "mkdir", "rename", "replace", "symlink", "unlink", "rmdir")
WRITABLE = os.O_WRONLY | os.O_RDWR | os.O_CREAT
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
OUTPUT = "output.txt"

When = Literal["before", "half", "after"]


@dataclass(frozen=True)
class Death:
    """How a process ends before its time.

    Attributes:
        signal: that it gets.
        seconds: after its start; or
        operation: the number of the operation by which it changes a disk, counted from 0; -1: by time.
        when: 'before' the operation; 'half': after the first half of its bytes, if it is a write; or 'after'.
    """

    signal: int = signal.SIGKILL
    seconds: float = 0.0
    operation: int = -1
    when: When = "before"

    def __str__(self) -> str:
        name = signal.Signals(self.signal).name
        if self.operation < 0:
            return f"{name} after {self.seconds:.2f} s"
        moment = "in the middle of" if self.when == "half" else self.when
        return f"{name} {moment} operation {self.operation}"


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


def forked(do: Callable[[], Any], death: Death | None = None, output: Path | None = None) -> int:
    """Does something in a child process, which begins with all that this one has imported.

    Args:
        do: what; `SystemExit` sets the exit code, a signal is answered as on the command line.
        death: how it ends before that.
        output: where it prints to; None: where this process does.

    Returns:
        Its exit code, or minus the signal that ended it; 1 after an exception, which it has printed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, interrupt.ASKING)
    child = os.fork()
    if not child:
        _live(do, death, output)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if death and death.operation < 0:
        handle = os.pidfd_open(child)
        if not select.select([handle], [], [], death.seconds)[0]:
            signal.pidfd_send_signal(handle, death.signal)
        os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _live(do: Callable[[], Any], death: Death | None, output: Path | None) -> NoReturn:
    """The life of a child."""
    code = 1
    try:
        with interrupt.heeding():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, interrupt.ASKING)
            if output:
                file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                os.dup2(file, 1)
                os.dup2(file, 2)
                sys.stdout = os.fdopen(1, "w", closefd=False)
                sys.stderr = os.fdopen(2, "w", closefd=False)
            if death and death.operation >= 0:
                die_at(death)
            do()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except interrupt.Stopped as error:
        code = interrupt.exit_code(error.signal)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def die_at(death: Death) -> "itertools.count[int]":
    """From now on this process sends itself a signal at an operation that changes a disk.

    Returns:
        The counter of such operations: its next number is how many there were.
    """
    counter = itertools.count()
    for name in CHANGING:
        setattr(os, name, _deadly(name, getattr(os, name), counter, death))
    return counter


def _deadly(
    name: str, operation: Callable[..., Any], counter: "itertools.count[int]", death: Death
) -> Callable[..., Any]:
    @functools.wraps(operation)
    def deadly(*arguments: Any, **options: Any) -> Any:
        if (name == "open" and not arguments[1] & WRITABLE) or next(counter) != death.operation:
            return operation(*arguments, **options)
        if death.when == "after":
            done = operation(*arguments, **options)
            os.kill(os.getpid(), death.signal)
            return done
        if death.when == "half" and name == "write" and len(arguments[1]) > 1:
            half = operation(arguments[0], arguments[1][: len(arguments[1]) // 2])
            os.kill(os.getpid(), death.signal)
            return half  # as a write that was interrupted
        os.kill(os.getpid(), death.signal)
        return operation(*arguments, **options)

    return deadly


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
    return 0, interrupt.exit_code(death.signal)


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
