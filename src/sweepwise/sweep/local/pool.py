"""Trains the runs of a sweep on this machine, each in a process that is forked after torch was imported.

A run that fails, is killed or runs out of memory takes no other run with it. A signal is sent on to all
processes: each makes its checkpoint, and no further run is started.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from sweepwise.errors import CHANGED, ELSEWHERE, FAILED, REFUSED, Failure
from sweepwise.provenance import environment, origin, sources
from sweepwise.provenance.changes import Changed, already_ended
from sweepwise.run import load
from sweepwise.store.folders import SWEEP, remove_empty
from sweepwise.store.request import Request
from sweepwise.store.status import EXIT_CODES
from sweepwise.sweep import notes
from sweepwise.sweep.announced import announced
from sweepwise.sweep.cluster.ledger import LOGS
from sweepwise.sweep.local import beforehand, groups, machine
from sweepwise.sweep.local.child import Child, Ending, start_child
from sweepwise.sweep.local.fork import BRIEF_SECONDS, TICK_SECONDS
from sweepwise.sweep.local.groups import Unit
from sweepwise.sweep.local.observer import UNOBSERVED, Observer
from sweepwise.sweep.outcome import Outcome, told
from sweepwise.sweep.summary import expect_in_tensorboard, forget_in_tensorboard, number
from sweepwise.system import signals
from sweepwise.system.atomic import make_folder

LATE_IMPORTS = (  # modules that a training imports when it first needs them
    "numpy.random",
    "tensorboard.compat.proto.event_pb2",
    "tensorboard.plugins.custom_scalar.layout_pb2",
    "tensorboard.plugins.hparams.api_pb2",
    "tensorboard.plugins.hparams.plugin_data_pb2",
)


def train_all(
    requests: Sequence[Request],
    *,
    max_parallel: int | None = None,
    fuse: bool = True,
    group_size: int | None = None,
    suffix: str = "",
    observer: Observer = UNOBSERVED,
) -> list[Outcome]:
    """Trains runs, as many at a time as there are cores or GPUs; a run that is given twice is trained once.

    Args:
        requests: the runs.
        max_parallel: processes at a time, >= 1; None: one a GPU, or as many as the cores have threads for.
        fuse: whether runs that differ in numbers only are trained as one program.
        group_size: the most runs of such a program, >= 1; None: as many as are fastest.
        suffix: of the logs' names, which begin with the run's id.
        observer: is told what happens, and asked who else trains a run.

    Returns:
        The outcome of each run, in the order of `requests`.

    Raises:
        Stopped: a signal came; all runs that had started have made a checkpoint, as far as they could.
        OSError: a log cannot be written.
    """
    outcomes: dict[str, Outcome] = {}
    waiting: list[Request] = []

    def end(outcome: Outcome) -> None:
        outcomes[_key(outcome.request)] = outcome
        observer.ended(outcome)

    for request in {_key(request): request for request in requests}.values():
        if outcome := _earlier_outcome(request):
            end(outcome)
        else:
            waiting.append(request)
    if waiting:
        _prepare(waiting)
        known = beforehand.look(waiting)
        for place, faults in known.faults.items():
            end(Outcome(waiting[place], REFUSED, last=[f"error: {fault}" for fault in faults]))
        noted = notes.lines([(waiting[place].overrides, said) for place, said in known.notes.items()])
        if left := len(waiting) - len(known.notes) - len(known.faults) if noted else 0:
            noted.append(f"{number(left)} not looked at yet: their notes stand beside the results")
        waiting = [request for request in waiting if _key(request) not in outcomes]
    if waiting:
        made = [level for logs in dict.fromkeys(map(_logs, waiting)) for level in make_folder(logs)]
        expect_in_tensorboard(waiting)
        try:
            gpus = machine.slots(waiting, max_parallel)
            units: Sequence[Unit] = [Unit([request], False) for request in waiting]
            if fuse and len(units) > 1:
                grouped = groups.groups(waiting, len(gpus), group_size, machine.free_memory(gpus))
                observer.say("plan", str(grouped))
                units = grouped.units
            for note in noted:
                observer.say("note", note)
            with announced(waiting):
                _Pool(gpus, units, suffix, observer, end).train()
        finally:
            forget_in_tensorboard(waiting)
            remove_empty(made)  # as far as nothing is in them
    return [outcomes[_key(request)] for request in requests]


def _key(request: Request) -> str:
    return f"{request.home}/{request.id}"


def _logs(request: Request) -> Path:
    return request.home / SWEEP / LOGS


def _earlier_outcome(request: Request) -> Outcome | None:
    """The outcome of a run that has ended before, or why it cannot be told; None if it has to be trained."""
    try:
        known = already_ended(request)
    except (Failure, OSError) as error:
        code = CHANGED if isinstance(error, Changed) else FAILED
        return Outcome(request, code, last=str(error).splitlines())
    return Outcome(request, EXIT_CODES[known["status"]], known=told(known)) if known else None


def _prepare(requests: Sequence[Request]) -> None:
    """Does once what each process would do: imports, hashes of the code, loading the data."""
    load.trainer()
    import torch

    from sweepwise.run import bind_all

    torch.set_num_threads(1)  # threads of OpenMP's would not survive a fork
    steps: dict[str, Callable[[], object]] = {}
    for request in requests:
        with contextlib.suppress(Exception):  # each run reports its own error
            if (data := str(request.config["data"])) not in steps:
                steps[data] = bind_all(request.config)["data"].target
            steps.setdefault(str(request.targets), partial(_cache_provenance, request.targets))
    with signals.deferred(), load.without_searches():
        for name in LATE_IMPORTS:
            importlib.import_module(name)
    for step in steps.values():
        with contextlib.suppress(Exception):
            step()
    gc.collect()
    gc.freeze()


def _cache_provenance(targets: Iterable[str]) -> None:
    """Computes what is kept for later calls."""
    origin.code_origin(targets)
    _ = sources.code(targets).digest
    environment.versions()


class _Pool:
    """Processes that train units of runs, one in each slot.

    Args:
        gpus: of each slot the GPU that its process uses; None: none of its own.
        units: the runs of each process, in the order in which they are started.
        suffix: of the logs' names.
        observer: see `train_all`.
        end: takes the outcome of each run, in the place of the observer.
    """

    def __init__(
        self,
        gpus: Sequence[str | None],
        units: Iterable[Unit],
        suffix: str,
        observer: Observer,
        end: Callable[[Outcome], None],
    ) -> None:
        self._gpus = gpus
        self._waiting = deque(units)
        self._suffix = suffix
        self._observer = observer
        self._end = end
        self._children: dict[int, Child] = {}  # by slot
        self._signal = 0

    def train(self) -> None:
        """Trains all units.

        Raises:
            Stopped: a signal came; see `train_all`.
        """
        with signals.handling_signals(self._send_all):
            try:
                while self._start_waiting():
                    for child, ending in self._ended_children():
                        self._report(child, ending)
                    self._observer.tick()
            except BaseException:  # raised by the observer, or for want of memory
                self._send_all(signal.SIGTERM)
                while self._children:
                    self._ended_children()
                raise
        if self._signal:
            raise signals.Stopped(self._signal)

    def _send_all(self, number: int, frame: FrameType | None = None) -> None:
        """Sends a signal on to all processes; the first signal decides the exit code."""
        self._signal = self._signal or number
        for child in self._children.values():
            child.send(number)

    def _start_waiting(self) -> bool:
        """Starts a process in each free slot, but none after a signal; returns whether any process runs."""
        free = [slot for slot in range(len(self._gpus)) if slot not in self._children]
        for slot in [] if self._signal else free:
            if unit := self._next_unit():
                self._start(slot, unit)
        return bool(self._children)

    def _next_unit(self) -> Unit | None:
        """The next unit, without the runs that somebody else trains; None if nothing is left to start."""
        while self._waiting:
            unit = self._waiting.popleft()
            ours = []
            for request in unit.requests:
                if other := self._observer.other_trainer(request):
                    self._end(Outcome(request, ELSEWHERE, last=[other]))
                else:
                    ours.append(request)
            if ours:
                return Unit(ours, unit.fused)
        return None

    def _start(self, slot: int, unit: Unit) -> None:
        logs = [_logs(request) / f"{request.id}{self._suffix}.log" for request in unit.requests]
        self._observer.started(unit.requests)
        with signals.blocked():  # each process that exists is sent the signal
            self._children[slot] = start_child(unit, logs, self._gpus[slot])

    def _ended_children(self) -> list[tuple[Child, Ending]]:
        """Waits for a process to end, `TICK_SECONDS` at most; frees and returns those that have ended."""
        pipes = [child.end for child in self._children.values()]
        readable, _, _ = select.select(pipes, [], [], TICK_SECONDS)
        endings = {slot: ending for slot, child in self._children.items() if (ending := child.ended())}
        if readable and not endings:
            time.sleep(BRIEF_SECONDS)  # it is about to end, or lives on with its pipe closed
        return [(self._children.pop(slot), ending) for slot, ending in endings.items()]

    def _report(self, child: Child, ending: Ending) -> None:
        """Reports the runs of a process that has ended; those that it left unfinished are queued again."""
        outcomes = child.outcomes(ending)
        for outcome in outcomes:
            self._end(outcome)
        smaller = _smaller_groups(child, outcomes)
        if smaller and ending.why:
            self._observer.say("again", f"{_described(smaller)}: {ending.why}")
        self._waiting.extendleft(smaller)


def _smaller_groups(child: Child, outcomes: Sequence[Outcome]) -> list[Unit]:
    """The runs of a group that have no outcome, in two smaller groups: alone, a run shows its own fault."""
    ended = {outcome.request.id for outcome in outcomes}
    unfinished = [child.resumed(request) for request in child.requests if request.id not in ended]
    middle = -(-len(child.requests) // 2)
    return [Unit(part, len(part) > 1) for part in (unfinished[:middle], unfinished[middle:]) if part]


def _described(units: Sequence[Unit]) -> str:
    """How many runs there are in units that are trained again, and how: '4 runs, in smaller groups'."""
    runs = sum(len(unit.requests) for unit in units)
    how = "in smaller groups" if runs > len(units) else "each alone" if runs > 1 else "alone"
    return f"{number(runs)}, {how}"
