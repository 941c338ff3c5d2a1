"""Trains one run from its composed config, in its folder.

All faults of a config are found before a folder is made.
"""

from dataclasses import dataclass
from functools import partial

from sweepwise.distributed.join import join_world
from sweepwise.distributed.world import World
from sweepwise.errors import UsageError, explained
from sweepwise.learner.fused import alone
from sweepwise.parts import Parts
from sweepwise.run import from_config, messages
from sweepwise.run.follow import CLAIMING, ENDING, echo_seconds, follow, synchronised
from sweepwise.run.session import open_session
from sweepwise.seed import one_at_a_time
from sweepwise.store import record, status
from sweepwise.store.claim import Claim, claim_run
from sweepwise.store.folders import steps_taken
from sweepwise.store.request import Request
from sweepwise.store.status import EXIT_CODES
from sweepwise.system.progress import progress
from sweepwise.system.signals import StopFlag, exit_code
from sweepwise.trainer import Run, fit


@dataclass(frozen=True)
class Result:
    """A run that has ended.

    Attributes:
        run: its final state.
        exit_code: the process's, for its status.
        signal: the number of the signal that ended it; 0 if none did.
    """

    run: Run
    exit_code: int
    signal: int = 0


@one_at_a_time
def train(request: Request, *, fused: bool | None = None) -> Result:
    """Trains one run, resuming it if it has started before, and returns its result.

    Args:
        request: the run.
        fused: whether it computes its steps as in a group of runs, to the bit; None: if its model can be
            trained so without autograd, see `alone`. A run that started in one way resumes in that way.

    Raises:
        UsageError: the config cannot be used; nothing was written.
        Busy: another process trains this run.
        Ended: the run has ended already, perhaps in another process just now.
        Changed: it was produced with different code, inputs, versions or data.
        Failure: it has started and no intact checkpoint is left; or it ran out of memory.
        TakenOver: a later attempt of the same Slurm job has taken it over.
        OSError: the folder cannot be written.
    """
    with join_world() as world:
        parts = world.on_all("building the parts", partial(_build, request, world))
        if not world.leads:
            return Result(*follow(parts, world))
        with world.on_rank_0(CLAIMING, partial(claim_run, request)) as claimed:
            resumes = not request.config["fresh"] and steps_taken(claimed.inside) > 0
            fused = status.is_fused(record.read(claimed.inside)) if resumes else fused
            return _train(request, parts, claimed, world, fused)


def _build(request: Request, world: World) -> Parts:
    """As `from_config.build`; refuses if not all processes were given the same run."""
    if request.id != world.on_rank_0("which run is trained", lambda: request.id, to_others=str):
        raise UsageError(
            [f"RANK={world.rank}: has another config than rank 0; start all processes with the same command"]
        )
    try:
        return from_config.build(request, world)
    except Exception as error:
        if failure := explained(error):
            raise failure from error
        raise


def _train(request: Request, parts: Parts, claimed: Claim, world: World, fused: bool | None) -> Result:
    """Trains in a folder that this process has claimed."""
    interrupts = StopFlag(echo_seconds(world))
    learner, fused = alone(parts.learner, parts.batch(), fused)
    with open_session(request, parts, claimed, world, fused=fused) as session:
        run, step = session.run, session.step
        stop, run.checkpoints = synchronised(world, interrupts, step, run.checkpoints, run.monitor)
        messages.opening(request, parts, claimed.folder, session.lines)
        with interrupts, progress(parts.steps, request.config["progress"], step) as bar:
            fit(learner, parts.data, parts.task, [run], parts.settings, bar, stop, world)
    messages.closing(claimed.folder, session.ended)
    code = exit_code(interrupts.signal) if interrupts() else EXIT_CODES[run.status]
    return Result(run, *world.on_rank_0(ENDING, lambda: (code, interrupts.signal), to_others=tuple))
