"""Trains several runs that differ only in numbers as one program."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from sweepwise.data import Data
from sweepwise.diagnosis import advice
from sweepwise.diagnosis.advice import Diagnosis
from sweepwise.errors import Failure, UsageError, reason
from sweepwise.learner.first_passes import Tried
from sweepwise.learner.fused import FusedLearner
from sweepwise.learner.fused.purity import Unfusable
from sweepwise.parts import Parts
from sweepwise.run import from_config, messages
from sweepwise.run.session import Session, open_session
from sweepwise.seed import one_at_a_time
from sweepwise.store.claim import Claim, claim_runs
from sweepwise.store.request import Request, keys
from sweepwise.system import atomic
from sweepwise.system.handle import readable
from sweepwise.system.progress import progress
from sweepwise.system.signals import StopFlag
from sweepwise.trainer import fit

OURS = "sweepwise.data."  # begins the names of functions whose data depend on their options alone


class FoldersRemoved(Failure):
    """Runs cannot be trained together any longer, since the folders of some were removed.

    Attributes:
        removed: ids of those runs.
    """

    def __init__(self, error: Exception, removed: Sequence[str]) -> None:
        super().__init__(readable(error))
        self.removed = removed


@one_at_a_time
def train_together(requests: Sequence[Request]) -> int:
    """Trains runs that differ only in numbers as one program, each in its folder as if it were alone.

    Runs whose config is refused are left out, and no folder is made for them.

    Args:
        requests: two or more runs, all at the same step.

    Returns:
        The number of the signal that ended the training; 0 if none did.

    Raises:
        UsageError: fewer than two of them can be built.
        FoldersRemoved: folders of some were removed during the training.
        Unfusable: they cannot be trained as one program. After this, and after whatever `train` raises for
            one of them, all runs that have started are interrupted: each can then be trained alone.
    """
    requests, members = _members(requests)
    data, task, settings = members[0].data, members[0].task, members[0].settings
    learner = FusedLearner([parts.learner for parts in members], members[0].batch())
    interrupts = StopFlag()
    with contextlib.ExitStack() as open_folders:
        claimed = [open_folders.enter_context(own) for own in claim_runs(requests)]
        sessions: list[Session] = []
        begins: list[atomic.Durable] = []
        ends: list[atomic.Durable] = []
        open_folders.enter_context(_removed_folders_named(requests, claimed))
        open_folders.callback(atomic.together, ends)
        opening = functools.partial(
            open_session, fused=True, diagnose=_diagnosing(members), begin=begins.append, end=ends.append
        )
        try:
            for request, parts, own in zip(requests, members, claimed, strict=True):
                sessions.append(open_folders.enter_context(opening(request, parts, own)))
            atomic.together(begins)
            step, *other_steps = (session.step for session in sessions)
            if any(other != step for other in other_steps):
                raise Unfusable("they are not all at the same step")
            messages.opening_together(requests, members[0], [own.folder for own in claimed], step)
            with interrupts, progress(members[0].steps, requests[0].config["progress"], step) as bar:
                fit(learner, data, task, [session.run for session in sessions], settings, bar, interrupts)
        except Exception as error:
            for session in sessions:
                session.run.end("interrupted", f"could not be trained together with others: {reason(error)}")
            raise
    for own, session in zip(claimed, sessions, strict=True):
        messages.closing_together(own.folder, session.ended)
    return interrupts.signal


def _diagnosing(members: Sequence[Parts]) -> Callable[[Parts], Diagnosis]:
    """As `advice.diagnose`, but all networks are examined when it is asked for the first of them.

    Between the files of each run an examination takes half as long again.
    """

    @functools.cache
    def found() -> Mapping[int, Diagnosis]:
        return {id(parts): advice.diagnose(parts) for parts in members}

    return lambda parts: found()[id(parts)]


@contextlib.contextmanager
def _removed_folders_named(requests: Sequence[Request], claimed: Sequence[Claim]) -> Iterator[None]:
    """Raises `FoldersRemoved` in place of any other error if folders of some runs are gone."""
    try:
        yield
    except Exception as error:
        folders = zip(requests, claimed, strict=True)
        if removed := [request.id for request, own in folders if not own.folder.exists()]:
            raise FoldersRemoved(error, removed) from error
        raise


def _members(requests: Sequence[Request]) -> tuple[list[Request], list[Parts]]:
    """The runs that can be built, and their parts, which share the data.

    Raises:
        UsageError: fewer than two can be built; says why one cannot.
        Unfusable: the data differ from run to run.
    """
    buildable: list[Request] = []
    members: list[Parts] = []
    refused = UsageError([])
    tried: Tried | None = None
    for request in requests:
        try:
            shared = _shared_data(request, buildable, members)
            parts = from_config.build(request, shared=shared, tried=tried)
        except UsageError as error:
            refused = error
            continue
        if members and (
            request.config["data"] != buildable[0].config["data"]
            or parts.data.sha256 != members[0].data.sha256
        ):
            raise Unfusable("their data differ")
        tried = tried or Tried.of(parts.learner)
        buildable.append(request)
        members.append(replace(parts, data=members[0].data) if members else parts)
    if len(buildable) < 2:
        raise refused
    return buildable, members


def _shared_data(request: Request, built: Sequence[Request], members: Sequence[Parts]) -> Data | None:
    """The data of the runs that are built, if another one has the same; None: they must be loaded.

    A function that is not ours is called twice, to see whether it returns the same each time.
    """
    if not built or request.config["data"] != built[0].config["data"]:
        return None
    ours = request.config["data"]["_target_"].startswith(OURS)
    alike = set(keys(request.overrides)) == set(keys(built[0].overrides))  # some are refused by the data
    return members[0].data if len(members) > 1 or (ours and alike) else None
