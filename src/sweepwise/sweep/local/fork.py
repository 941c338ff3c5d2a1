"""Forked processes: how one detaches itself from its parent, and a function that is called in one."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from sweepwise.errors import FAILED, Failure
from sweepwise.system import console, signals
from sweepwise.system.parent import end_with

T = TypeVar("T")

TICK_SECONDS, BRIEF_SECONDS = 0.5, 0.01
PIPE = 2**16  # bytes that a pipe holds


def run_in_child(ask: Callable[[], T]) -> T:
    """Calls a function in a forked process, so that it changes nothing in this one; returns what it returns.

    Args:
        ask: returns what JSON can hold.

    Raises:
        Failure: the process died.
    """
    parent = os.getpid()
    console.flush()
    with signals.blocked():
        end, other = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                detach(parent, os.open(os.devnull, os.O_WRONLY))
                signals.unblock()
                with os.fdopen(other, "w") as pipe:
                    print(json.dumps(ask()), file=pipe)
            finally:
                os._exit(FAILED)
        with contextlib.suppress(OSError):  # it has done so itself, or has ended
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
        raise Failure(ending_of(os.waitstatus_to_exitcode(status)))
    result: T = json.loads(answer)
    return result


def _line(end: int, pid: int) -> bytes:
    """The line that a child writes into a pipe; less if it dies. Its own children may keep the pipe open."""
    answer = b""
    while not answer.endswith(b"\n"):
        select.select([end], [], [], TICK_SECONDS)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        more = read(end)
        answer += more
        if ended:
            break
        if not more:
            time.sleep(BRIEF_SECONDS)  # its end of the pipe is closed, though it lives
    return answer


def read(end: int) -> bytes:
    """What is in a pipe, without waiting: processes that the writer has left behind may keep it open."""
    os.set_blocking(end, False)
    with contextlib.suppress(BlockingIOError):
        return os.read(end, PIPE)
    return b""


def detach(parent: int, log: int, gpu: str | None = None) -> None:
    """Gives a forked process its own output, signals, process group and GPU; it ends with its parent."""
    os.setpgid(0, 0)  # Ctrl-C in the terminal reaches the parent alone, which sends it on
    for number in signals.STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    # New objects: those of the parent may be of any kind, and hold text that it has not yet written.
    sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, errors="replace", closefd=False)
    no_input = os.open(os.devnull, os.O_RDONLY)
    os.dup2(no_input, 0)
    os.close(no_input)
    if not end_with(parent, signal.SIGTERM):
        raise signals.Stopped(signal.SIGTERM)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu


def ending_of(code: int) -> str:
    """How a process has ended that sent no report, by its exit code."""
    if code < 0:
        hint = "; perhaps the memory was full" if code == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}"
    return f"its process exited with code {code}"
