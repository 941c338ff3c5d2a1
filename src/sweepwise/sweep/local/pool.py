"""The runs of a sweep on this machine: a process each, forked after torch's import, one a core or GPU.

What happens to a run happens to its process: it fails, is killed or runs out of memory alone. A signal is
passed on to all; each makes its checkpoint, and none is begun any more.
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

from sweepwise.errors import CHANGED, ELSEWHERE, FAILED, Failure
from sweepwise.provenance import environment, origin, sources
from sweepwise.provenance.changes import Changed, refuse_made_otherwise
from sweepwise.run import load
from sweepwise.store import record
from sweepwise.store.folders import SWEEP, remove_empty
from sweepwise.store.request import Request
from sweepwise.store.status import ENDED, ended
from sweepwise.sweep.cluster.ledger import LOGS
from sweepwise.sweep.local import groups, machine
from sweepwise.sweep.local.child import Child, Ending, forked
from sweepwise.sweep.local.fork import BRIEF_SECONDS, TICK_SECONDS, signals_blocked
from sweepwise.sweep.local.groups import Unit
from sweepwise.sweep.outcome import Outcome
from sweepwise.sweep.summary import number
from sweepwise.system import signals
from sweepwise.system.atomic import make_folder

LATER = (  # what a training imports when it first needs it
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
    elsewhere: Callable[[Request], str] = lambda _: "",
    said: Callable[[str, str], None] = lambda key, text: None,
    told: Callable[[Outcome], None] = lambda _: None,
    tick: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Trains runs, as many at a time as there are cores or GPUs; the same run twice is trained once.

    Args:
        requests: the runs.
        max_parallel: at a time, >= 1; None: one a GPU, or as many as the cores have threads for.
        fuse: whether runs that differ in numbers only are trained as one program.
        group_size: of those at most; None: as many as are fastest.
        said: called with a keyword and a text: before any is begun, what is trained together ('plan'); and
            if that comes to an end, why, and how many runs go on in smaller groups ('again').
        suffix: of the logs' names, which begin with the run's id.
        elsewhere: asked when a run is about to begin: who has it, if somebody else has; then it does not.
        told: called when a run has ended.
        tick: called twice a second, or more often.

    Returns:
        What became of each, in the order of `requests`.

    Raises:
        Stopped: a signal came; all runs that had begun have made a checkpoint, as far as they could.
        OSError: a log cannot be written.
    """
    outcomes: dict[str, Outcome] = {}
    waiting: list[Request] = []

    def ended_so(outcome: Outcome) -> None:
        outcomes[_key(outcome.request)] = outcome
        told(outcome)

    for request in {_key(request): request for request in requests}.values():
        if known := _before(request):
            ended_so(known)
        else:
            waiting.append(request)
    if waiting:
        _prepare(waiting)
        made = [level for request in waiting for level in make_folder(_logs(request))]
        try:
            slots = machine.slots(waiting, max_parallel)
            units: Sequence[Unit] = [Unit([request], False) for request in waiting]
            if fuse and len(units) > 1:
                found = groups.groups(waiting, len(slots), group_size, machine.free_memory(slots))
                said("plan", str(found))
                units = found.units
            _train(deque(units), _Running(slots), suffix, elsewhere, ended_so, said, tick)
        finally:
            remove_empty(made)  # as far as nothing is in them
    return [outcomes[_key(request)] for request in requests]


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
        refuse_made_otherwise(folder, known, request)
    except (Failure, OSError) as error:
        code = CHANGED if isinstance(error, Changed) else FAILED
        return Outcome(request, code, last=str(error).splitlines())
    return Outcome(request, ENDED[known["status"]])


def _prepare(requests: Sequence[Request]) -> None:
    """Does once what each run would do: imports, what is known of the code, a first look at the data."""
    load.trainer()
    import torch

    from sweepwise.run import bind_all

    torch.set_num_threads(1)  # threads of OpenMP's would not survive a fork
    parts: dict[str, Callable[[], object]] = {}
    for request in requests:
        with contextlib.suppress(Exception):  # each run says itself what is wrong
            parts.setdefault(str(request.config["data"]), bind_all(request.config)["data"].target)
            parts.setdefault(str(request.targets), partial(_known, request.targets))
    with signals.deferred(), load.without_searches():
        for name in LATER:
            importlib.import_module(name)
    for part in parts.values():
        with contextlib.suppress(Exception):
            part()
    gc.collect()
    gc.freeze()


def _known(targets: Iterable[str]) -> None:
    """Asks what stays known."""
    origin.code_origin(targets)
    sources.code(targets)
    environment.versions()


class _Running:
    """Processes that train runs, each in a slot of its own; a signal goes on to all of them."""

    def __init__(self, gpus: Sequence[str | None]) -> None:
        self._gpus = gpus
        self._children: dict[int, Child] = {}  # by slot
        self.signal = 0

    def __bool__(self) -> bool:
        return bool(self._children)

    def free(self) -> list[int]:
        """Slots in which nobody is; none once a signal has come."""
        return [] if self.signal else [slot for slot in range(len(self._gpus)) if slot not in self._children]

    def start(self, slot: int, unit: Unit, logs: Sequence[Path]) -> None:
        """Trains a run, or several as one program, in a free slot."""
        with signals_blocked():
            self._children[slot] = forked(unit, logs, self._gpus[slot])

    def pass_on(self, number: int, frame: FrameType | None = None) -> None:
        """Answers a signal; the first counts."""
        self.signal = self.signal or number
        for child in self._children.values():
            child.send(number)

    def ended(self) -> list[tuple[Child, Ending]]:
        """Waits a little; returns those that have ended, and how."""
        said, _, _ = select.select([child.end for child in self._children.values()], [], [], TICK_SECONDS)
        found = {slot: ending for slot, child in self._children.items() if (ending := child.ended())}
        if said and not found:
            time.sleep(BRIEF_SECONDS)  # it is about to end, or lives on with its pipe closed
        return [(self._children.pop(slot), ending) for slot, ending in found.items()]


def _train(
    waiting: deque[Unit],
    running: _Running,
    suffix: str,
    elsewhere: Callable[[Request], str],
    told: Callable[[Outcome], None],
    said: Callable[[str, str], None],
    tick: Callable[[], None],
) -> None:
    with signals.handling_signals(running.pass_on):
        try:
            while running or (waiting and not running.signal):
                for slot in running.free():
                    if unit := _next(waiting, elsewhere, told):
                        logs = [_logs(request) / f"{request.id}{suffix}.log" for request in unit.requests]
                        running.start(slot, unit, logs)
                if not running:
                    break
                for child, ending in running.ended():
                    outcomes = child.outcomes(ending)
                    for outcome in outcomes:
                        told(outcome)
                    if left := _halves(child, outcomes):
                        if ending.why:
                            said("again", _told_of(left, ending.why))
                        waiting.extendleft(left)
                tick()
        except BaseException:  # of `told` or `tick`, or for want of memory
            running.pass_on(signal.SIGTERM)
            while running:
                running.ended()
            raise
    if running.signal:
        raise signals.Stopped(running.signal)


def _next(
    waiting: deque[Unit], elsewhere: Callable[[Request], str], told: Callable[[Outcome], None]
) -> Unit | None:
    """What is to begin now, of runs that nobody else has; tells of the others. None if nothing is left."""
    while waiting:
        unit = waiting.popleft()
        own = []
        for request in unit.requests:
            if who := elsewhere(request):
                told(Outcome(request, ELSEWHERE, last=[who]))
            else:
                own.append(request)
        if own:
            return Unit(own, unit.fused)
    return None


def _told_of(units: Sequence[Unit], why: str) -> str:
    runs = sum(len(unit.requests) for unit in units)
    how = "in smaller groups" if runs > len(units) else "each alone" if runs > 1 else "alone"
    return f"{number(runs)}, {how}: {why}"


def _halves(child: Child, outcomes: Sequence[Outcome]) -> list[Unit]:
    """The runs of a group that have not ended, in two smaller ones; alone, one says what is wrong."""
    ended = {outcome.request.id for outcome in outcomes}
    left = [child.going_on(request) for request in child.requests if request.id not in ended]
    middle = -(-len(child.requests) // 2)
    return [Unit(part, len(part) > 1) for part in (left[:middle], left[middle:]) if part]
