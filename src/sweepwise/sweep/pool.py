"""The runs of a sweep on this machine: a process each, forked after torch's import, one a core or GPU.

What happens to a run happens to its process: it fails, is killed or runs out of memory alone. A signal is
passed on to all; each makes its checkpoint, and none is begun any more.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

from sweepwise import console, importing, interrupt, provenance, record
from sweepwise.failure import Failure
from sweepwise.folders import SWEEP, make, remove
from sweepwise.identity import Request
from sweepwise.schema import UsageError
from sweepwise.standing import ENDED, Ended, ended, made_by, refuse_changed
from sweepwise.sweep.ledger import LOGS

FAILED, BAD_USAGE = 1, 2
TICK_SECONDS = 0.5
LATER = (  # what a training imports when it first needs it
    "numpy.random",
    "tensorboard.compat.proto.event_pb2",
    "tensorboard.plugins.custom_scalar.layout_pb2",
    "tensorboard.plugins.hparams.api_pb2",
    "tensorboard.plugins.hparams.plugin_data_pb2",
)
LAST_LINES = 5
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


@dataclass
class _Child:
    """A process that trains a run."""

    request: Request
    log: Path
    slot: int
    end: int  # of a pipe that the kernel closes when the process is gone


def train_all(
    requests: Sequence[Request],
    *,
    max_parallel: int | None = None,
    suffix: str = "",
    begun: Callable[[Request], None] = lambda _: None,
    told: Callable[[Outcome], None] = lambda _: None,
    tick: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Trains runs, as many at a time as there are cores or GPUs; the same run twice is trained once.

    Args:
        requests: the runs.
        max_parallel: at a time, >= 1; None: one a GPU, or as many as the cores have threads for.
        suffix: of the logs' names, which begin with the run's id.
        begun: called when a run is begun.
        told: called when a run has ended.
        tick: called twice a second, or more often.

    Returns:
        What became of each, in the order of `requests`.

    Raises:
        Stopped: a signal came; all runs that had begun have made a checkpoint, as far as they could.
        OSError: a log cannot be written.
    """
    outcomes: dict[str, Outcome] = {}
    waiting: deque[Request] = deque()
    for request in {_key(request): request for request in requests}.values():
        known = _before(request)
        if known:
            outcomes[_key(request)] = known
            told(known)
        else:
            waiting.append(request)
    if waiting:
        _prepare(waiting)
        made = [level for request in waiting for level in make(_logs(request))]
        try:
            _train(waiting, _slots(waiting, max_parallel), suffix, outcomes, begun, told, tick)
        finally:
            remove(made)  # as far as nothing is in them
    return [outcomes[_key(request)] for request in requests]


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


def _key(request: Request) -> str:
    return f"{request.home}/{request.id}"


def _logs(request: Request) -> Path:
    return request.home / SWEEP / LOGS


def _before(request: Request) -> Outcome | None:
    """What became of a run that has ended before; None if there is something to do."""
    try:
        folder = request.folder
        known = record.read(folder)
        if request.config["fresh"] or not ended(known):
            return None
        differs = provenance.differences(known, made_by(request, provenance.versions()))
        refuse_changed(folder, known, request, [*differs.code, *differs.inputs, *differs.versions])
    except (Failure, OSError) as error:
        return Outcome(request, FAILED, last=str(error).splitlines())
    return Outcome(request, ENDED[known["status"]])


def _prepare(requests: Sequence[Request]) -> None:
    """Does once what each run would do for itself: imports, git's answers, a first look at the data."""
    importing.trainer()
    import torch

    from sweepwise.run import bind_all

    torch.set_num_threads(1)  # threads of OpenMP's would not survive a fork
    parts: dict[str, Callable[[], object]] = {}
    for request in requests:
        with contextlib.suppress(Exception):  # each run says itself what is wrong
            parts.setdefault(str(request.config["data"]), bind_all(request.config)["data"].target)
            parts.setdefault(str(request.targets), partial(provenance.origin, request.targets))
    with interrupt.deferred(), importing.without_searches():
        for name in LATER:
            importlib.import_module(name)
    for part in parts.values():
        with contextlib.suppress(Exception):
            part()
    gc.collect()
    gc.freeze()


def _slots(requests: Sequence[Request], max_parallel: int | None) -> list[str | None]:
    """For each run at a time the GPU that it is given; None: none of its own."""
    wants_gpu = any(request.config["trainer"]["device"] in ("auto", "cuda") for request in requests)
    gpus: list[str | None] = list(_gpus()) if wants_gpu else []
    threads = max(request.config["trainer"]["threads"] for request in requests)
    number = max_parallel or len(gpus) or max(1, _cores() // threads)
    number = min(number, len(requests))
    return [gpus[slot % len(gpus)] if gpus else None for slot in range(number)]


def _cores() -> int:
    """The cores that this process may use; of a Slurm job those it was given, also where none enforces it."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(here, int(os.environ.get("SLURM_CPUS_ON_NODE", here)))


def _gpus() -> list[str]:
    """The GPUs that this process may use; asked of the system, as a fork must find CUDA untouched."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [word for word in told.split(",") if word]
    return [str(i) for i, _ in enumerate(sorted(Path("/dev").glob("nvidia[0-9]*")))]


def _train(
    waiting: deque[Request],
    gpus: Sequence[str | None],
    suffix: str,
    outcomes: dict[str, Outcome],
    begun: Callable[[Request], None],
    told: Callable[[Outcome], None],
    tick: Callable[[], None],
) -> None:
    running: dict[int, _Child] = {}
    noted: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def look() -> None:
        """Waits a little for one to end."""
        select.select([child.end for child in running.values()], [], [], TICK_SECONDS)
        for pid in list(running):
            gone, status = os.waitpid(pid, os.WNOHANG)
            if gone:
                child = running.pop(pid)
                os.close(child.end)
                outcome = _outcome(child, os.waitstatus_to_exitcode(status))
                outcomes[_key(child.request)] = outcome
                told(outcome)

    with interrupt.heeding(pass_on):
        try:
            while running or (waiting and not noted):
                free = sorted(set(range(len(gpus))) - {child.slot for child in running.values()})
                for slot in free[: len(waiting) if not noted else 0]:
                    request = waiting.popleft()
                    begun(request)
                    with _held_back():
                        log = _logs(request) / f"{request.id}{suffix}.log"
                        pid, child = _fork(request, log, slot, gpus[slot])
                        running[pid] = child
                look()
                tick()
        except BaseException:  # of `begun`, `told` or `tick`, or for want of memory
            pass_on(signal.SIGTERM, None)
            for pid in running:
                os.waitpid(pid, 0)
            raise
    if noted:
        raise interrupt.Stopped(noted[0])


def _outcome(child: _Child, code: int) -> Outcome:
    last = last_lines(child.log) if code else []
    if code == BAD_USAGE:  # nothing has been made
        child.log.unlink(missing_ok=True)
        return Outcome(child.request, code, last=last)
    return Outcome(child.request, code, child.log, [*last, *_killed(code)])


def _killed(code: int) -> list[str]:
    hint = "; perhaps the memory was full" if code == -signal.SIGKILL else ""
    return [f"killed by {signal.Signals(-code).name}{hint}"] if code < 0 else []


def last_lines(log: Path) -> list[str]:
    """What was printed into a log at last."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [text for text in lines if text.strip()][-LAST_LINES:]


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """While entered, signals wait: none falls between the birth of a process and our knowing of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, interrupt.ASKING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _fork(request: Request, log: Path, slot: int, gpu: str | None) -> tuple[int, _Child]:
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
    return pid, _Child(request, log, slot, end)


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
