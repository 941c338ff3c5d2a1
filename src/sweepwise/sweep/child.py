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
from sweepwise.standing import ENDED, Changed, Ended
from sweepwise.sweep.summary import CHANGED, ELSEWHERE, REFUSED, UNTRIED, last_lines
from sweepwise.sweep.together import Unit

FAILED, SIGNALLED = 1, 128
PR_SET_PDEATHSIG = 1  # of Linux's prctl
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


@dataclass(frozen=True)
class Outcome:
    """What became of a run of a sweep.

    Attributes:
        request: the run.
        exit_code: of its process, as train.py's, or one of `UNTRIED`; below 0: it was killed by that signal.
        log: what it printed; None: it was not begun.
        last: the last lines of that; or why it was not begun.
    """

    request: Request
    exit_code: int
    log: Path | None = None
    last: Sequence[str] = ()


@dataclass(frozen=True)
class Child:
    """A process that trains one run, or several as one program.

    Attributes:
        pid: its number.
        requests: the runs.
        logs: of each what it prints; of several it is one file with several names.
        gone: of a pipe, readable once the process has ended.
    """

    pid: int
    requests: Sequence[Request]
    logs: Sequence[Path]
    gone: int

    def exit_code(self) -> int | None:
        """Its exit code; None while it lives. It must not be asked again then."""
        pid, ended = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        os.close(self.gone)
        return os.waitstatus_to_exitcode(ended)

    def outcomes(self, code: int) -> list[Outcome]:
        """What became of its runs; those of several that have not ended, nor were asked to, are left out.

        Args:
            code: its exit code.
        """
        if len(self.requests) == 1:
            return [self._outcome(0, code)]
        statuses = [_status(request) for request in self.requests]
        told = [ENDED.get(status, code if code > SIGNALLED else None) for status in statuses]
        return [self._outcome(i, own) for i, own in enumerate(told) if own is not None]

    def _outcome(self, place: int, code: int) -> Outcome:
        request, log = self.requests[place], self.logs[place]
        if why := _died(code, _status(request)):
            with contextlib.suppress(OSError), log.open("a") as told:
                told.write(f"error: {why}\n")
        last = last_lines(log) if code or why else []
        if code == REFUSED:  # nothing has been made
            log.unlink(missing_ok=True)
        return Outcome(request, code, None if code in UNTRIED else log, last)

    def send(self, number: int) -> None:
        """Sends it a signal, if it lives."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


def _died(code: int, status: str) -> str:
    """How a process has ended that could not say so itself; '' if it could.

    Args:
        code: its exit code.
        status: in the record of its run.
    """
    if code < 0:
        hint = "; perhaps the memory was full" if code == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}"
    silent = (code not in (0, FAILED, *UNTRIED) and code < SIGNALLED) or (code == 0 and status not in ENDED)
    return f"its process was left with exit code {code}" if silent else ""


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """While entered, signals wait: none falls between the birth of a process and our knowing of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, interrupt.ASKING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def forked(unit: Unit, logs: Sequence[Path], gpu: str | None) -> Child:
    """Starts a process that trains a run, or several as one program; signals must be `held_back`.

    Raises:
        OSError: the log cannot be written.
    """
    parent, requests = os.getpid(), unit.requests
    if logs[0].exists() and logs[0].stat().st_nlink > 1:  # of an earlier group, whose others keep it
        logs[0].unlink()
    for log in logs[1:]:
        _name_too(logs[0], log)
    output = os.open(logs[0], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    end, other = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = FAILED
        try:
            os.close(end)
            _be_alone(parent, output, gpu)
            with console.lasting(), interrupt.heeding():
                signal.pthread_sigmask(signal.SIG_UNBLOCK, interrupt.ASKING)
                one = len(requests) == 1
                code = train_here(requests[0], unit.fused) if one else _train_together(requests)
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
    os.close(output)
    return Child(pid, requests, logs, end)


def _name_too(log: Path, other: Path) -> None:
    """Gives a log another name, by which its run finds it."""
    log.touch()
    other.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not every file system can
        os.link(log, other)


def _train_together(requests: Sequence[Request]) -> int:
    from sweepwise.run import train_together

    keep_freed_memory()
    try:
        number = train_together(requests)
    except UsageError:  # all but one are refused; each says itself why
        return FAILED
    except Exception as error:  # each is trained alone then, and says itself what is wrong with it
        print(f"not together: {str(error) or type(error).__name__}", file=sys.stderr)
        return FAILED
    if number:
        raise interrupt.Stopped(number)
    return 0


def keep_freed_memory() -> None:
    """Where the C library can; else it gives large tensors back to the system at every step."""
    with contextlib.suppress(AttributeError):
        allocator = ctypes.CDLL(None).mallopt
        for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            allocator(parameter, 2**30)


def _status(request: Request) -> str:
    try:
        return str(record.read(request.folder).get("status", ""))
    except OSError:
        return ""


def _be_alone(parent: int, log: int, gpu: str | None) -> None:
    """Makes a forked process one that trains a run: own output, signals and GPU; it ends with its parent."""
    os.setpgid(0, 0)  # Ctrl-C in the terminal comes to the parent alone, who passes it on
    for number in interrupt.ASKING:
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
            raise interrupt.Stopped(signal.SIGTERM)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu


def train_here(request: Request, fused: bool = False) -> int:
    """Trains a run in this process; says what is wrong and returns the exit code.

    Args:
        request: the run.
        fused: see `sweepwise.run.train`.

    Raises:
        Stopped: a signal came; the run has made a checkpoint.
    """
    try:
        result = importing.trainer()(request, fused=fused)
    except Ended:
        return 0
    except UsageError as error:
        return _told(error, REFUSED)
    except record.Busy as error:
        return _told(error, ELSEWHERE)
    except Changed as error:
        return _told(error, CHANGED)
    except (Failure, OSError) as error:
        return _told(error, FAILED)
    if result.signal:
        raise interrupt.Stopped(result.signal)
    return result.exit_code


def _told(error: Exception, code: int) -> int:
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return code
