"""A process that trains one run of a sweep: forked, alone with its log, and what became of it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweepwise import console, importing, interrupt, record
from sweepwise.failure import Failure
from sweepwise.identity import Request
from sweepwise.schema import UsageError
from sweepwise.standing import Ended
from sweepwise.sweep.summary import last_lines

FAILED, BAD_USAGE = 1, 2
PR_SET_PDEATHSIG = 1  # of Linux's prctl


@dataclass(frozen=True)
class Outcome:
    """What became of a run of a sweep.

    Attributes:
        request: the run.
        exit_code: of its process, as train.py's; below 0: it was killed by that signal.
        log: what it printed; None: it was not begun.
        last: the last lines of that; or why it was not begun.
    """

    request: Request
    exit_code: int
    log: Path | None = None
    last: Sequence[str] = ()


@dataclass(frozen=True)
class Child:
    """A process that trains a run.

    Attributes:
        pid: its number.
        request: the run.
        log: what it prints.
        gone: of a pipe, readable once the process has ended.
    """

    pid: int
    request: Request
    log: Path
    gone: int

    def outcome(self) -> Outcome | None:
        """What became of it; None while it lives."""
        pid, ended = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        os.close(self.gone)
        code = os.waitstatus_to_exitcode(ended)
        last = last_lines(self.log) if code else []
        if code == BAD_USAGE:  # nothing has been made
            self.log.unlink(missing_ok=True)
            return Outcome(self.request, code, last=last)
        return Outcome(self.request, code, self.log, [*last, *_killed(code)])

    def send(self, number: int) -> None:
        """Sends it a signal, if it lives."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


def _killed(code: int) -> list[str]:
    hint = "; perhaps the memory was full" if code == -signal.SIGKILL else ""
    return [f"killed by {signal.Signals(-code).name}{hint}"] if code < 0 else []


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """While entered, signals wait: none falls between the birth of a process and our knowing of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, interrupt.ASKING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def forked(request: Request, log: Path, gpu: str | None) -> Child:
    """Starts a process that trains a run; signals must be `held_back`."""
    parent = os.getpid()
    end, other = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = FAILED
        try:
            os.close(end)
            _be_alone(parent, log, gpu)
            with console.lasting(), interrupt.heeding():
                signal.pthread_sigmask(signal.SIG_UNBLOCK, interrupt.ASKING)
                code = train_here(request)
        except interrupt.Stopped as stopped:
            code = interrupt.exit_code(stopped.signal)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    os.close(other)
    return Child(pid, request, log, end)


def _be_alone(parent: int, log: Path, gpu: str | None) -> None:
    """Makes a forked process one that trains a run: own output, signals and GPU; it ends with its parent."""
    os.setpgid(0, 0)  # Ctrl-C in the terminal comes to the parent alone, who passes it on
    for number in interrupt.ASKING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
    # Anew: what was there may be anything, also something that the parent has not written out.
    sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, errors="replace", closefd=False)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it was gone before we asked
            raise interrupt.Stopped(signal.SIGTERM)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu


def train_here(request: Request) -> int:
    """Trains a run in this process; says what is wrong and returns the exit code.

    Raises:
        Stopped: a signal came; the run has made a checkpoint.
    """
    try:
        result = importing.trainer()(request)
    except Ended:
        return 0
    except UsageError as error:
        return _told(error, BAD_USAGE)
    except (record.Busy, Failure, OSError) as error:
        return _told(error, FAILED)
    if result.signal:
        raise interrupt.Stopped(result.signal)
    return result.exit_code


def _told(error: Exception, code: int) -> int:
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return code
