"""Processes that die: in a forked child, at a moment that is chosen to the operation."""

import itertools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, Literal

# How a process changes a disk, by the names of `os`; pathlib and shutil go through them too.
CHANGING = ("open", "write", "fsync", "ftruncate", "mkdir", "rename", "replace", "symlink", "unlink", "rmdir")
WRITABLE = os.O_WRONLY | os.O_RDWR | os.O_CREAT

When = Literal["before", "half", "after"]


def forked(do: Callable[[], Any]) -> int:
    """Does something in a child process, which begins with all that this one has imported.

    Returns:
        Its exit code, or minus the signal that ended it; 1 after an exception, which it has printed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        do()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def die_at(number: int, when: When = "before") -> None:
    """From now on this process kills itself (SIGKILL) at an operation that changes a disk.

    Args:
        number: of the operation, counted from 0.
        when: 'before' it; 'half': after the first half of its bytes, if it is a write; or 'after' it.
    """
    counter = itertools.count()
    for name in CHANGING:
        setattr(os, name, _deadly(name, getattr(os, name), counter, number, when))


def _deadly(
    name: str, operation: Callable[..., Any], counter: "itertools.count[int]", number: int, when: When
) -> Callable[..., Any]:
    def deadly(*arguments: Any, **options: Any) -> Any:
        if name == "open" and not arguments[1] & WRITABLE:
            return operation(*arguments, **options)
        if next(counter) != number:
            return operation(*arguments, **options)
        if when == "half" and name == "write":
            operation(arguments[0], arguments[1][: len(arguments[1]) // 2])
        elif when == "after":
            operation(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    return deadly
