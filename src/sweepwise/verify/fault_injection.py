"""Child processes that are killed at a chosen moment; forked after all imports, so that they start fast."""

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

from sweepwise.system import disk, signals

# The functions of `os` that change a disk; pathlib and shutil call them too.
CHANGING = (
    *("open", "write", "pwrite", "fsync", "ftruncate", "truncate"),
    *("mkdir", "rename", "replace", "link", "symlink", "unlink", "rmdir"),
)
WRITABLE = os.O_WRONLY | os.O_RDWR | os.O_CREAT

When = Literal["before", "half", "after"]


@dataclass(frozen=True)
class Death:
    """When and by which signal a process is killed.

    Attributes:
        signal: the signal.
        seconds: after its start, if `operation` is -1.
        operation: at which of its operations that change a disk, counted from 0; -1: by time.
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
    """Calls a function in a child process, in which everything is imported that is in this one.

    Args:
        do: the function; `SystemExit` sets the exit code, a signal is answered as on the command line.
        death: how the process is killed before it ends by itself; None: it is not.
        output: the file it prints into; None: where this process prints.

    Returns:
        The exit code, or minus the signal that ended the process; 1 after an exception, which it has printed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with signals.blocked():
        child = os.fork()
        if not child:
            _run_and_exit(do, death, output)
    if death and death.operation < 0:
        handle = os.pidfd_open(child)
        if not select.select([handle], [], [], death.seconds)[0]:
            signal.pidfd_send_signal(handle, death.signal)
        os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run_and_exit(do: Callable[[], Any], death: Death | None, output: Path | None) -> NoReturn:
    """Does it in the child, and ends that process with the exit code."""
    code = 1
    try:
        with signals.handling_signals():
            signals.unblock()
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


def die_at(death: Death, counted: Callable[[], bool] = lambda: True) -> "itertools.count[int]":
    """Makes this process send itself a signal at an operation that changes a disk.

    To be called before another thread changes one: `shutil.rmtree` of Python 3.13 compares `os.rmdir` with
    the function that it found when it began.

    Args:
        death: the operation and the signal.
        counted: whether operations count yet.

    Returns:
        The counter of such operations: its next number is how many there were.
    """
    counter = itertools.count()

    def comes(name: str, arguments: tuple[Any, ...]) -> bool:
        if not counted() or (name == "open" and not arguments[1] & WRITABLE):
            return False
        return next(counter) == death.operation

    for name in CHANGING:
        setattr(os, name, _deadly(name, getattr(os, name), comes, death))
    disk.syncfs = _deadly("syncfs", disk.syncfs, comes, death)
    return counter


def _deadly(
    name: str,
    operation: Callable[..., Any],
    comes: Callable[[str, tuple[Any, ...]], bool],
    death: Death,
) -> Callable[..., Any]:
    @functools.wraps(operation)
    def deadly(*arguments: Any, **options: Any) -> Any:
        if not comes(name, arguments):
            return operation(*arguments, **options)
        if death.when == "after":
            done = operation(*arguments, **options)
            os.kill(os.getpid(), death.signal)
            return done
        if death.when == "half" and name == "write" and len(arguments[1]) > 1:
            half = operation(arguments[0], arguments[1][: len(arguments[1]) // 2])
            os.kill(os.getpid(), death.signal)
            return half  # as an interrupted write does
        os.kill(os.getpid(), death.signal)
        return operation(*arguments, **options)

    return deadly
