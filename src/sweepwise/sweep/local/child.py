"""A process that trains one run of a sweep: forked, alone with its log, and what became of it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from sweepwise.errors import CHANGED, ELSEWHERE, FAILED, REFUSED, UNTRIED, Failure, UsageError
from sweepwise.provenance.changes import Changed
from sweepwise.run import load
from sweepwise.store import claim, record
from sweepwise.store.folders import RECORD
from sweepwise.store.request import Request
from sweepwise.store.status import ENDED, Ended
from sweepwise.sweep.local.fork import detach, died, read
from sweepwise.sweep.local.groups import Unit
from sweepwise.sweep.outcome import Outcome, last_lines, last_of
from sweepwise.system import console, signals

SAID = 2000  # letters that a process tells its parent at most, so that it never waits for him
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


class Ending(NamedTuple):
    """How a process has ended.

    Attributes:
        code: its exit code; below 0: it was killed by that signal.
        last: what it printed at last, also where its log could not be written; '' if it could not say.
        why: its runs were not trained together to the end; '' if they were, or if each says so itself.
        removed: ids of its runs whose folders were removed while they trained.
    """

    code: int
    last: str = ""
    why: str = ""
    removed: Sequence[str] = ()


@dataclass(frozen=True)
class Child:
    """A process that trains one run, or several as one program.

    Attributes:
        pid: its number.
        requests: the runs.
        logs: of each what it prints; of several it is one file with several names.
        end: of a pipe, readable once the process has ended.
        before: by a run's id its record when it began, as `_written` tells records apart.
    """

    pid: int
    requests: Sequence[Request]
    logs: Sequence[Path]
    end: int
    before: Mapping[str, object]

    def ended(self) -> Ending | None:
        """How it has ended; None while it lives. It must not be asked again then."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        code = os.waitstatus_to_exitcode(status)
        said = read(self.end)
        os.close(self.end)
        return Ending(code, **json.loads(said)) if said else Ending(code, why=died(code))

    def outcomes(self, ending: Ending) -> list[Outcome]:
        """What became of its runs; those of several that have not ended, nor were asked to, are left out."""
        code = ending.code
        statuses = [_status(request) if self._begun(request) else "" for request in self.requests]
        if len(self.requests) == 1:
            why = ending.why if code or statuses[0] not in ENDED else ""
            return [self._outcome(0, code or (FAILED if why else 0), ending.last, why)]
        found = []
        for place, (request, status) in enumerate(zip(self.requests, statuses, strict=True)):
            own = ENDED.get(status, code if code > signals.SIGNALLED else None)
            if request.id in ending.removed:
                found.append(self._outcome(place, FAILED, f"error: {ending.why}"))
            elif own is not None:
                found.append(self._outcome(place, own, ending.last))
        return found

    def _outcome(self, place: int, code: int, said: str, why: str = "") -> Outcome:
        request, log = self.requests[place], self.logs[place]
        last = (last_of(said) or last_lines(log)) if code else []
        if why:
            last = [*last, f"error: {why}"]
            with contextlib.suppress(OSError), log.open("a") as told:
                told.write(f"{last[-1]}\n")
        if code == REFUSED:  # nothing has been made
            log.unlink(missing_ok=True)
        return Outcome(request, code, None if code in UNTRIED else log, last)

    def _begun(self, request: Request) -> bool:
        """Whether its record is of this training, or of one that it takes up."""
        anew = request.config["fresh"]
        return not anew or _written(request) != self.before[request.id]

    def going_on(self, request: Request) -> Request:
        """The run for another process: if it is trained anew and this one has begun it, it goes on."""
        if not self._begun(request):
            return request
        return replace(request, config={**request.config, "fresh": False})

    def send(self, number: int) -> None:
        """Sends it a signal, if it lives."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


def _written(request: Request) -> object:
    """Which record a run has: each time it is written, it is another file."""
    with contextlib.suppress(OSError):
        found = (request.folder / RECORD).stat()
        return found.st_ino, found.st_mtime_ns
    return None


def forked(unit: Unit, logs: Sequence[Path], gpu: str | None) -> Child:
    """Starts a process that trains a run, or several as one program; signals must be `signals_blocked`.

    Raises:
        OSError: the log cannot be written.
    """
    parent, requests = os.getpid(), unit.requests
    before = {request.id: _written(request) for request in requests}
    if requests[0].home.exists():  # somebody may have removed the logs meanwhile
        logs[0].parent.mkdir(parents=True, exist_ok=True)
    if logs[0].exists() and logs[0].stat().st_nlink > 1:  # of an earlier group, whose others keep it
        logs[0].unlink()
    for log in logs[1:]:
        _name_too(logs[0], log)
    output = os.open(logs[0], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    end, other = os.pipe()
    console.flush()
    pid = os.fork()
    if pid == 0:
        code = FAILED
        try:
            os.close(end)
            detach(parent, output, gpu)
            with console.tolerant_output() as printed:
                ending = _trained(unit)
            _say(other, ending._replace(last=printed()[-SAID:]))
            code = ending.code
        finally:
            with contextlib.suppress(OSError):
                console.flush()
            os._exit(code)
    os.close(other)
    os.close(output)
    return Child(pid, requests, logs, end, before)


def _trained(unit: Unit) -> Ending:
    """Trains in this process, which was forked for it."""
    try:
        with signals.handling_signals():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.STOP_SIGNALS)
            try:
                if len(unit.requests) == 1:
                    return Ending(train_here(unit.requests[0], unit.fused))
                return _trained_together(unit.requests)
            finally:  # what it has come to stands
                signal.pthread_sigmask(signal.SIG_BLOCK, signals.STOP_SIGNALS)
    except signals.Stopped as stopped:
        return Ending(signals.exit_code(stopped.signal))
    except BaseException:
        traceback.print_exc()
        return Ending(FAILED)


def _say(end: int, ending: Ending) -> None:
    """Tells the parent, who reads it when this process has ended."""
    said = {key: value for key, value in ending._asdict().items() if key != "code"}
    with contextlib.suppress(OSError):
        os.write(end, json.dumps(said).encode())


def _name_too(log: Path, other: Path) -> None:
    """Gives a log another name, by which its run finds it."""
    log.touch()
    other.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not every file system can
        os.link(log, other)


def _trained_together(requests: Sequence[Request]) -> Ending:
    from sweepwise.run import FoldersRemoved, train_together

    keep_freed_memory()
    try:
        number = train_together(requests)
    except UsageError:  # all but one are refused; each says itself why
        return Ending(FAILED)
    except Exception as error:  # each is trained alone then, and says itself what is wrong with it
        why = (str(error) or type(error).__name__)[:SAID]
        print(f"not together: {why}", file=sys.stderr)
        return Ending(FAILED, why=why, removed=error.removed if isinstance(error, FoldersRemoved) else ())
    if number:
        raise signals.Stopped(number)
    return Ending(0)


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


def train_here(request: Request, fused: bool = False) -> int:
    """Trains a run in this process; says what is wrong and returns the exit code.

    Args:
        request: the run.
        fused: see `sweepwise.run.train`.

    Raises:
        Stopped: a signal came; the run has made a checkpoint.
    """
    try:
        result = load.trainer()(request, fused=fused)
    except Ended:
        return 0
    except UsageError as error:
        return _told(error, REFUSED)
    except claim.Busy as error:
        return _told(error, ELSEWHERE)
    except Changed as error:
        return _told(error, CHANGED)
    except (Failure, OSError) as error:
        return _told(error, FAILED)
    if result.signal:
        raise signals.Stopped(result.signal)
    return result.exit_code


def _told(error: Exception, code: int) -> int:
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return code
