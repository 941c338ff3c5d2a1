"""A run that several processes train: what they exchange at each step, and what all ranks but 0 do.

Only rank 0 has the folder, writes and prints. The others take the same steps and make the same decisions,
since they see the same losses and metrics; rank 0 sends them what depends on a clock, a signal or a monitor.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sweepwise.distributed.world import World
from sweepwise.learner import Watch
from sweepwise.parts import Parts
from sweepwise.system.progress import Silent
from sweepwise.system.signals import StopFlag
from sweepwise.trainer import Run, fit
from sweepwise.trainer.protocols import Checkpoints, Monitor, NoCheckpoints, NoMonitor, Weights

ECHO_SECONDS = 5.0
# Labels of what rank 0 alone does while the others wait for its result: all must name them alike.
CLAIMING = "claiming the run's folder"
RESUMING = "finding where the run resumes"
ENDING = "how the run has ended"


def _never_due(step: int) -> bool:
    return False


def _watch_nothing(step: int) -> int:
    return 0


class StepSync:
    """One exchange after every step: of signals, due checkpoints, and how much of the next step is logged.

    Args:
        world: the processes.
        interrupts: this process's stop flag; it is set if another process has received a signal.
        step: the next step.
        due: in rank 0, whether a checkpoint is due after so many steps.
        watch: in rank 0, how much its monitor logs of a step.

    Attributes:
        due: whether a checkpoint is due now.
        watched: how much of the next step is logged.
    """

    def __init__(
        self,
        world: World,
        interrupts: StopFlag,
        step: int,
        due: Callable[[int], bool] = _never_due,
        watch: Callable[[int], int] = _watch_nothing,
    ) -> None:
        self._world, self._interrupts = world, interrupts
        self._step, self._due, self._watch = step, due, watch
        self.due = False
        (self.watched,) = world.max("what is logged of the first step", [watch(step)])

    def __call__(self) -> bool:
        """Whether any process has received a signal; call it once after each step."""
        self._step += 1
        own = [self._interrupts.signal, self._due(self._step), self._watch(self._step)]
        signal, due, self.watched = self._world.max("what comes after a step", own)
        self.due = bool(due)
        # A signal during the exchange waits for the next one: all must stop at the same step.
        self._interrupts.signal = signal or self._interrupts.signal
        return signal != 0


class SyncedCheckpoints:
    """Checkpoints that all processes take at the same step.

    Args:
        world: the processes.
        sync: says what is due within an epoch.
        own: rank 0's checkpoints; in the other ranks `NoCheckpoints`.
    """

    def __init__(self, world: World, sync: StepSync, own: Checkpoints) -> None:
        self._world, self._sync, self._own = world, sync, own

    def due(self, step: int, epochs: int = 0) -> bool:
        """See `Checkpoints.due`."""
        if not epochs:
            return self._sync.due
        (due,) = self._world.max("whether a checkpoint is due after an epoch", [self._own.due(step, epochs)])
        return bool(due)

    def save(
        self, step: int, weights: Weights, best: tuple[int, Weights] | None, state: Mapping[str, Any]
    ) -> None:
        """See `Checkpoints.save`."""
        self._own.save(step, weights, best, state)

    def finish(
        self, step: int, weights: Weights, best: tuple[int, Weights] | None, state: Mapping[str, Any]
    ) -> None:
        """See `Checkpoints.finish`."""
        self._own.finish(step, weights, best, state)


def synchronised(
    world: World, interrupts: StopFlag, step: int, checkpoints: Checkpoints, monitor: Monitor
) -> tuple[Callable[[], bool], Checkpoints]:
    """Rank 0's stop flag and checkpoints, synchronised with the other ranks; unchanged in a single process.

    Args:
        world: the processes.
        interrupts: this process's stop flag.
        step: the next step.
        checkpoints: the run's.
        monitor: the run's.
    """
    if world.size == 1:
        return interrupts, checkpoints
    sync = StepSync(world, interrupts, step, checkpoints.due, monitor.watch)
    return sync, SyncedCheckpoints(world, sync, checkpoints)


class FollowerMonitor(NoMonitor):
    """Watches the same steps as rank 0's monitor, and writes nothing."""

    def __init__(self, sync: StepSync) -> None:
        self._sync = sync

    def watch(self, step: int) -> Watch:
        """How much rank 0 logs of this step."""
        return Watch(self._sync.watched)


def echo_seconds(world: World) -> float:
    """For how long the launcher may repeat a signal; in a single process a second one comes from a person."""
    return ECHO_SECONDS if world.size > 1 else 0.0


def follow(parts: Parts, world: World) -> tuple[Run, int, int]:
    """Trains in a rank other than 0; returns the run, the exit code and the signal (0: none).

    Raises:
        PeerLost: another process is gone.
        PeerFailed: another process has failed; its output says why.
    """
    world.on_rank_0(CLAIMING, _only_in_rank_0)
    saved = world.on_rank_0(RESUMING, _only_in_rank_0)
    interrupts = StopFlag(echo_seconds(world))
    with interrupts:
        sync = StepSync(world, interrupts, saved.step if saved else 0)
        run = Run(
            parts.schedule,
            parts.early_stop,
            parts.seeds.data,
            FollowerMonitor(sync),
            SyncedCheckpoints(world, sync, NoCheckpoints()),
            parts.pause_after,
        )
        if saved:
            parts.learner.load_state_dict(0, saved.weights, saved.best, saved.state["learner"])
            run.load_state_dict(saved.state)
        del saved  # frees a whole model and its optimizer state
        fit(parts.learner, parts.data, parts.task, [run], parts.settings, Silent(), sync, world)
        return run, *world.on_rank_0(ENDING, _only_in_rank_0)


def _only_in_rank_0() -> None:
    """Stands for what rank 0 does; the other ranks never call it."""
