"""Processes that die at a moment of choice: children, forked after all imports, so that they cost little."""

import functools
import itertools
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from sweepwise.system import signals

# How a process changes a disk, by the names of `os`; pathlib and shutil go through them too.
CHANGING = (
    *("open", "write", "pwrite", "fsync", "ftruncate", "truncate"),
    *("mkdir", "rename", "replace", "link", "symlink", "unlink", "rmdir"),
)
WRITABLE = os.O_WRONLY | os.O_RDWR | os.O_CREAT

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
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals.STOP_SIGNALS)
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
        with signals.handling_signals():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.STOP_SIGNALS)
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
    except signals.Stopped as error:
        code = signals.exit_code(error.signal)
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
