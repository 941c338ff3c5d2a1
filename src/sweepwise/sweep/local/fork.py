"""What forked processes have in common."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from sweepwise.errors import FAILED, Failure
from sweepwise.system import console, signals

T = TypeVar("T")

TICK_SECONDS, BRIEF_SECONDS = 0.5, 0.01
PIPE = 2**16  # bytes that a pipe holds
PR_SET_PDEATHSIG = 1  # of Linux's prctl


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """While entered, signals wait: none falls between the birth of a process and our knowing of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals.STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_in_child(ask: Callable[[], T]) -> T:
    """What a function gives, called in a forked process: whatever it does, nothing here is changed by it.

    Args:
        ask: gives what JSON can hold.

    Raises:
        Failure: the process died.
    """
    parent = os.getpid()
    console.flush()
    with signals_blocked():
        end, other = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                detach(parent, os.open(os.devnull, os.O_WRONLY))
                signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.STOP_SIGNALS)
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
        raise Failure(died(os.waitstatus_to_exitcode(status)))
    found: T = json.loads(answer)
    return found


def _line(end: int, pid: int) -> bytes:
    """What a child writes into a pipe, whose other end its own children may hold; nothing if it dies."""
    answer = b""
    while not answer.endswith(b"\n"):
        select.select([end], [], [], TICK_SECONDS)
        gone = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        more = read(end)
        answer += more
        if gone:
            break
        if not more:
            time.sleep(BRIEF_SECONDS)  # its end of the pipe is closed, though it lives
    return answer


def read(end: int) -> bytes:
    """What is in a pipe; processes that the writer has left behind may hold its other end."""
    os.set_blocking(end, False)
    with contextlib.suppress(BlockingIOError):
        return os.read(end, PIPE)
    return b""


def detach(parent: int, log: int, gpu: str | None = None) -> None:
    """Makes a forked process one of its own: output, signals and GPU; it ends with its parent."""
    os.setpgid(0, 0)  # Ctrl-C in the terminal comes to the parent alone, who passes it on
    for number in signals.STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    # Anew: what was there may be anything, also something that the parent has not written out.
    sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, errors="replace", closefd=False)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was gone before we asked
        raise signals.Stopped(signal.SIGTERM)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu


def died(code: int) -> str:
    """How a process has ended that could not say so itself."""
    if code < 0:
        hint = "; perhaps the memory was full" if code == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}"
    return f"its process was left with exit code {code}"
