"""A run whose processes train together: what is agreed on at every step, and what all but rank 0 do.

Rank 0 alone has the folder, writes and prints. The others take the same steps and the same decisions, for
they see the same losses and metrics; what depends on a clock, a signal or a monitor they are told.
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
# What rank 0 finds and the others are told, here and in `run`.
FOLDER = "the run's folder"
BEGINNING = "where the run goes on"
ENDING = "how the run has ended"


def _never(step: int) -> bool:
    return False


def _nothing(step: int) -> int:
    return 0


class StepSync:
    """One exchange after every step: has a signal come, is a checkpoint due, how much is watched of the next.

    Args:
        world: of the processes.
        interrupts: of this one; learn of a signal that another has got.
        step: that comes next.
        due: in rank 0, whether a checkpoint is due after so many steps.
        watch: in rank 0, how much its monitor wants to see of a step.

    Attributes:
        due: whether a checkpoint is due now.
        watched: how much of the next step is.
    """

    def __init__(
        self,
        world: World,
        interrupts: StopFlag,
        step: int,
        due: Callable[[int], bool] = _never,
        watch: Callable[[int], int] = _nothing,
    ) -> None:
        self._world, self._interrupts = world, interrupts
        self._step, self._due, self._watch = step, due, watch
        self.due = False
        (self.watched,) = world.max("what is watched of the first step", [watch(step)])

    def __call__(self) -> bool:
        """Whether a signal has come to any of them; to be asked after each step, once."""
        self._step += 1
        own = [self._interrupts.signal, self._due(self._step), self._watch(self._step)]
        signal, due, self.watched = self._world.max("what comes after a step", own)
        self.due = bool(due)
        # One that came during the exchange waits for the next: all must stop at the same step.
        self._interrupts.signal = signal or self._interrupts.signal
        return signal != 0


class SyncedCheckpoints:
    """Checkpoints that all processes take at the same step.

    Args:
        world: of the processes.
        pulse: knows what is due in the middle of an epoch.
        own: rank 0's checkpoints; of the others those that keep nothing.
    """

    def __init__(self, world: World, pulse: StepSync, own: Checkpoints) -> None:
        self._world, self._pulse, self._own = world, pulse, own

    def due(self, step: int, epochs: int = 0) -> bool:
        """See `Checkpoints.due`."""
        if not epochs:
            return self._pulse.due
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


def together(
    world: World, interrupts: StopFlag, step: int, checkpoints: Checkpoints, monitor: Monitor
) -> tuple[Callable[[], bool], Checkpoints]:
    """What rank 0 asks after each step, and its checkpoints; in a world of one they stay as they are.

    Args:
        world: of the processes.
        interrupts: of this one.
        step: that comes next.
        checkpoints: of the run.
        monitor: of the run.
    """
    if world.size == 1:
        return interrupts, checkpoints
    pulse = StepSync(world, interrupts, step, checkpoints.due, monitor.watch)
    return pulse, SyncedCheckpoints(world, pulse, checkpoints)


class FollowerMonitor(NoMonitor):
    """Sees what rank 0's monitor sees, and writes nothing."""

    def __init__(self, pulse: StepSync) -> None:
        self._pulse = pulse

    def watch(self, step: int) -> Watch:
        """What rank 0 watches of this step."""
        return Watch(self._pulse.watched)


def echo_seconds(world: World) -> float:
    """For how long a signal may come again from the launcher; alone, the second one is a person's."""
    return ECHO_SECONDS if world.size > 1 else 0.0


def follow(parts: Parts, world: World) -> tuple[Run, int, int]:
    """Trains as one of the processes that rank 0 leads; returns the run, the exit code and the signal.

    Raises:
        Lost: another process has gone.
        SystemExit: another process has failed, and says why.
    """
    world.on_rank_0(FOLDER, _unasked)  # it is rank 0's
    saved = world.on_rank_0(BEGINNING, _unasked)
    interrupts = StopFlag(echo_seconds(world))
    with interrupts:
        pulse = StepSync(world, interrupts, saved.step if saved else 0)
        run = Run(
            parts.schedule,
            parts.early_stop,
            parts.seeds.data,
            FollowerMonitor(pulse),
            SyncedCheckpoints(world, pulse, NoCheckpoints()),
        )
        if saved:
            parts.learner.load_state_dict(0, saved.weights, saved.best, saved.state["learner"])
            run.load_state_dict(saved.state)
        del saved  # a whole model with its optimizer
        fit(parts.learner, parts.data, parts.task, [run], parts.settings, Silent(), pulse, world)
        return run, *world.on_rank_0(ENDING, _unasked)


def _unasked() -> None:
    """Rank 0 does something else instead."""
