"""A forked process that trains one run of a sweep, or a group, with a log of its own; and how it ended."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from sweepwise.errors import CHANGED, ELSEWHERE, FAILED, REFUSED, UNTRIED, Failure, UsageError
from sweepwise.provenance.changes import Changed
from sweepwise.run import load
from sweepwise.store import claim, record
from sweepwise.store.folders import RECORD
from sweepwise.store.request import Request
from sweepwise.store.status import EXIT_CODES, Ended, settled
from sweepwise.sweep.local.fork import detach, ending_of, read
from sweepwise.sweep.local.groups import Unit
from sweepwise.sweep.local.machine import allow_files_of
from sweepwise.sweep.outcome import Outcome, last_lines, last_of, told
from sweepwise.system import console, signals

REPORT_LETTERS = 2000  # that a process sends to its parent at most: they fit into the pipe, so it never waits
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


class Ending(NamedTuple):
    """How a process has ended.

    Attributes:
        code: its exit code; below 0: minus the signal that killed it.
        last: the end of what it printed, also where its log could not be written; '' if it could not send it.
        why: the reason why its runs were not trained to the end; '' if they were, or if each reports its own.
        removed: ids of its runs whose folders were removed during the training.
    """

    code: int
    last: str = ""
    why: str = ""
    removed: Sequence[str] = ()


@dataclass(frozen=True)
class Child:
    """A process that trains one run, or several as one program.

    Attributes:
        pid: the process id.
        requests: the runs.
        logs: the log file of each run; the runs of a group share one file, which has several names.
        end: the pipe's reading end, readable once the process has ended.
        before: by a run's id the version of its record when the process started; see `_record_version`.
    """

    pid: int
    requests: Sequence[Request]
    logs: Sequence[Path]
    end: int
    before: Mapping[str, object]

    def ended(self) -> Ending | None:
        """How it has ended; None while it lives. Must not be called again once it has ended."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        code = os.waitstatus_to_exitcode(status)
        report = read(self.end)
        os.close(self.end)
        return Ending(code, **json.loads(report)) if report else Ending(code, why=ending_of(code))

    def outcomes(self, ending: Ending) -> list[Outcome]:
        """The outcomes of its runs; those of a group that neither ended nor were stopped are left out."""
        code = ending.code
        ends = [_end(request) if self._has_begun(request) else {} for request in self.requests]
        if len(self.requests) == 1:
            why = ending.why if code or not ends[0] else ""
            return [self._outcome(0, code or (FAILED if why else 0), ending.last, why)]
        outcomes = []
        for index, (request, known) in enumerate(zip(self.requests, ends, strict=True)):
            exit_code = EXIT_CODES.get(known.get("status", ""), code if code > signals.SIGNALLED else None)
            if request.id in ending.removed:
                outcomes.append(self._outcome(index, FAILED, f"error: {ending.why}"))
            elif exit_code is not None:
                outcomes.append(self._outcome(index, exit_code, ending.last, known=known or None))
        return outcomes

    def _outcome(
        self, index: int, code: int, printed: str, why: str = "", known: Mapping[str, Any] | None = None
    ) -> Outcome:
        request, log = self.requests[index], self.logs[index]
        last = (last_of(printed) or last_lines(log)) if code else []
        if why:
            last = [*last, f"error: {why}"]
            with contextlib.suppress(OSError), log.open("a") as file:
                file.write(f"{last[-1]}\n")
        if code == REFUSED:  # nothing has been made
            log.unlink(missing_ok=True)
        return Outcome(request, code, None if code in UNTRIED else log, last, len(self.requests) - 1, known)

    def _has_begun(self, request: Request) -> bool:
        """Whether a run's record is of this training, or of one that it resumes."""
        return not request.config["fresh"] or _record_version(request) != self.before[request.id]

    def resumed(self, request: Request) -> Request:
        """The run for the next process: with `fresh` only if this process has not begun it."""
        if not self._has_begun(request):
            return request
        return replace(request, config={**request.config, "fresh": False})

    def send(self, number: int) -> None:
        """Sends it a signal, if it lives."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


def _record_version(request: Request) -> object:
    """Identifies a run's record.json, which is a new file each time it is written; None if there is none."""
    with contextlib.suppress(OSError):
        stat = (request.folder / RECORD).stat()
        return stat.st_ino, stat.st_mtime_ns
    return None


def start_child(unit: Unit, logs: Sequence[Path], gpu: str | None) -> Child:
    """Starts a process that trains a run, or several as one program; call it within `signals.blocked`.

    Raises:
        OSError: the log cannot be written.
    """
    parent, requests = os.getpid(), unit.requests
    before = {request.id: _record_version(request) for request in requests}
    if requests[0].home.exists():  # the folder of logs may have been removed in the meantime
        logs[0].parent.mkdir(parents=True, exist_ok=True)
    if logs[0].exists() and logs[0].stat().st_nlink > 1:  # of an earlier group, whose other runs keep it
        logs[0].unlink()
    for log in logs[1:]:
        _link_log(logs[0], log)
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
            _send_report(other, ending._replace(last=printed()[-REPORT_LETTERS:]))
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
            signals.unblock()
            try:
                if len(unit.requests) == 1:
                    return Ending(train_here(unit.requests[0], unit.fused or None))
                return _trained_together(unit.requests)
            finally:  # a later signal changes nothing in how it has ended
                signals.ignore(signals.STOP_SIGNALS)
    except signals.Stopped as stopped:
        return Ending(signals.exit_code(stopped.signal))
    except BaseException:
        traceback.print_exc()
        return Ending(FAILED)


def _send_report(end: int, ending: Ending) -> None:
    """Writes how this process ends into a pipe, which the parent reads afterwards."""
    report = {key: value for key, value in ending._asdict().items() if key != "code"}
    with contextlib.suppress(OSError):
        os.write(end, json.dumps(report).encode())


def _link_log(log: Path, other: Path) -> None:
    """Gives a log a second name, under which another of its runs finds it."""
    log.touch()
    other.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not every file system has hard links
        os.link(log, other)


def _trained_together(requests: Sequence[Request]) -> Ending:
    from sweepwise.run import FoldersRemoved, train_together

    keep_freed_memory()
    allow_files_of(len(requests))
    try:
        number = train_together(requests)
    except UsageError:  # all but one are refused; each reports its own error when it is trained alone
        return Ending(FAILED)
    except Exception as error:  # the pool trains them in smaller groups, until a run fails alone
        why = (str(error) or type(error).__name__)[:REPORT_LETTERS]
        print(f"could not be trained together: {why}", file=sys.stderr)
        return Ending(FAILED, why=why, removed=error.removed if isinstance(error, FoldersRemoved) else ())
    if number:
        raise signals.Stopped(number)
    return Ending(0)


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory; by default it returns large tensors to the system at every step."""
    with contextlib.suppress(AttributeError):
        allocator = ctypes.CDLL(None).mallopt
        for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            allocator(parameter, 2**30)


def _end(request: Request) -> dict[str, Any]:
    """What is told of a run that has ended as it was asked to; {} if it has not."""
    try:
        known = record.read(request.folder)
    except OSError:
        return {}
    return told(known) if settled(known, request.config) else {}


def train_here(request: Request, fused: bool | None = None) -> int:
    """Trains a run in this process; prints what is wrong and returns the exit code.

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
        return _printed_error(error, REFUSED)
    except claim.Busy as error:
        return _printed_error(error, ELSEWHERE)
    except Changed as error:
        return _printed_error(error, CHANGED)
    except (Failure, OSError) as error:
        return _printed_error(error, FAILED)
    if result.signal:
        raise signals.Stopped(result.signal)
    return result.exit_code


def _printed_error(error: Exception, code: int) -> int:
    """Prints an error; returns the code."""
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return code
