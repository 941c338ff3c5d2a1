"""What forked processes have in common."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from sweepwise import console, interrupt
from sweepwise.failure import Failure
from sweepwise.sweep.summary import UNTRIED

T = TypeVar("T")

FAILED, SIGNALLED = 1, 128
TICK_SECONDS = 0.5
PIPE = 2**16  # bytes that a pipe holds
PR_SET_PDEATHSIG = 1  # of Linux's prctl


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """While entered, signals wait: none falls between the birth of a process and our knowing of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, interrupt.ASKING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def apart(ask: Callable[[], T]) -> T:
    """What a function gives, called in a forked process: whatever it does, nothing here is changed by it.

    Args:
        ask: gives what JSON can hold.

    Raises:
        Failure: the process died.
    """
    console.flush()
    with held_back():
        end, other = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                for number in interrupt.ASKING:
                    signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, interrupt.ASKING)
                end_with_parent(signal.SIGKILL)
                os.setpgid(0, 0)
                nowhere = os.open(os.devnull, os.O_RDWR)
                for stream in range(3):
                    os.dup2(nowhere, stream)
                sys.stdout = sys.stderr = os.fdopen(nowhere, "w")
                with os.fdopen(other, "w") as told:
                    print(json.dumps(ask()), file=told)
            finally:
                os._exit(FAILED)
        with contextlib.suppress(OSError):  # it has done so itself, or is gone
            os.setpgid(pid, pid)
    os.close(other)
    try:
        answer = _line(end, pid)
    finally:
        os.close(end)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # with all that it has started
        _, status = os.waitpid(pid, 0)
    if not answer:
        raise Failure(died(os.waitstatus_to_exitcode(status)) or "it leaves its process")
    found: T = json.loads(answer)
    return found


def _line(end: int, pid: int) -> bytes:
    """What a child writes into a pipe, whose other end its own children may hold; nothing if it dies."""
    os.set_blocking(end, False)
    answer = b""
    while not answer.endswith(b"\n"):
        select.select([end], [], [], TICK_SECONDS)
        gone = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        with contextlib.suppress(BlockingIOError):
            answer += os.read(end, PIPE)
        if gone:
            break
    return answer


def end_with_parent(number: int) -> None:
    """Asks for a signal when the parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def died(code: int) -> str:
    """How a process has ended that could not say so itself; '' if it could."""
    if code < 0:
        hint = "; perhaps the memory was full" if code == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}"
    silent = code not in (0, FAILED, *UNTRIED) and code < SIGNALLED
    return f"its process was left with exit code {code}" if silent else ""
