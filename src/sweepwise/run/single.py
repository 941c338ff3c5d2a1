"""From a composed config to a run in its folder.

Everything that can be wrong with a config is found before a folder is made.
"""

from dataclasses import dataclass
from functools import partial

from sweepwise.distributed.join import joined
from sweepwise.distributed.world import World
from sweepwise.errors import UsageError, explained
from sweepwise.learner import Learner
from sweepwise.learner.fused import FusedLearner
from sweepwise.learner.fused.purity import Unfusable
from sweepwise.parts import Parts
from sweepwise.run import from_config, messages
from sweepwise.run.follow import ENDING, FOLDER, echo_seconds, follow, together
from sweepwise.run.session import open_session
from sweepwise.store import record, status
from sweepwise.store.claim import Claim, claim_run
from sweepwise.store.folders import steps_taken
from sweepwise.store.request import Request
from sweepwise.store.status import ENDED
from sweepwise.system.progress import progress
from sweepwise.system.signals import StopFlag, exit_code
from sweepwise.trainer import Run, fit


@dataclass(frozen=True)
class Result:
    """A run that has ended.

    Attributes:
        run: what became of it.
        exit_code: that says so to a shell.
        signal: that ended it; 0.
    """

    run: Run
    exit_code: int
    signal: int = 0


def train(request: Request, *, fused: bool = False) -> Result:
    """Trains one run, from where it was left if it had begun, and returns what became of it.

    Args:
        request: the run.
        fused: whether it takes its steps as one of a group does, to the bit; what was begun so goes on so.

    Raises:
        UsageError: the config asks for what cannot be; nothing was written.
        record.Busy: another process trains this run.
        Ended: another process has trained it meanwhile.
        Changed: it was begun by other code.
        Failure: it was begun, and no checkpoint of it is whole; or it ended for want of memory.
        Fenced: a later attempt of the same Slurm job has taken it over.
        OSError: the folder cannot be written.
    """
    with joined() as world:
        parts = world.on_all("building the parts", partial(_built, request, world))
        if not world.leads:
            return Result(*follow(parts, world))
        with world.on_rank_0(FOLDER, partial(claim_run, request)) as claim:
            going_on = not request.config["fresh"] and steps_taken(claim.inside) > 0
            fused = status.is_fused(record.read(claim.inside)) if going_on else fused
            return _train(request, parts, claim, world, fused and world.size == 1)


def _built(request: Request, world: World) -> Parts:
    """As `build`; all processes must want the same run."""
    if request.id != world.on_rank_0("which run is trained", lambda: request.id, told=str):
        raise UsageError([f"RANK={world.rank}: was started with another config than rank 0; start all alike"])
    try:
        return from_config.build(request, world)
    except Exception as error:
        if failure := explained(error):
            raise failure from error
        raise


def _train(request: Request, parts: Parts, claim: Claim, world: World, fused: bool) -> Result:
    """Trains in a folder that is this process's own, and leaves a record however it ends."""
    interrupts = StopFlag(echo_seconds(world))
    learner: Learner = parts.learner
    if fused:
        try:
            learner = FusedLearner([parts.learner], parts.batch())
        except Unfusable:  # on another device than it was tried on
            fused = False
    with open_session(request, parts, claim, world, fused=fused) as begun:
        interrupted, kept = together(world, interrupts, begun.step, begun.run.checkpoints, begun.run.monitor)
        run = begun.run
        run.checkpoints = kept
        messages.opening(request, parts, claim.folder, begun.said)
        with interrupts, progress(parts.steps, request.config["progress"], begun.step) as shown:
            fit(learner, parts.data, parts.task, [run], parts.settings, shown, interrupted, world)
    messages.closing(claim.folder, begun.ended)
    code = exit_code(interrupts.signal) if interrupts() else ENDED[run.status]
    return Result(run, *world.on_rank_0(ENDING, lambda: (code, interrupts.signal), told=tuple))
