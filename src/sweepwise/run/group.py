"""Runs that differ in numbers only, trained as one program."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from sweepwise.errors import Failure, UsageError, reason
from sweepwise.learner.fused import FusedLearner
from sweepwise.learner.fused.purity import Unfusable
from sweepwise.parts import Parts
from sweepwise.run import from_config, messages
from sweepwise.run.session import Session, open_session
from sweepwise.store.claim import claim_run
from sweepwise.store.request import Request
from sweepwise.system.handle import readable
from sweepwise.system.progress import progress
from sweepwise.system.signals import StopFlag
from sweepwise.trainer import fit


class FoldersRemoved(Failure):
    """Runs cannot go on together, since the folders of some were removed.

    Attributes:
        removed: ids of those runs.
    """

    def __init__(self, error: Exception, removed: Sequence[str]) -> None:
        super().__init__(readable(error))
        self.removed = removed


def train_together(requests: Sequence[Request]) -> int:
    """Trains runs that differ in numbers only as one program, each in its folder as if it were alone.

    Those that are refused are left out, and nothing is made for them.

    Args:
        requests: two or more, all at the same step.

    Returns:
        The signal that ended the training; 0.

    Raises:
        UsageError: less than two of them can be built.
        Apart: folders of some were removed meanwhile.
        Unfusable: they cannot be trained so. This and all that `train` raises of any of them ends all, as
            interrupted where they had begun: each can be trained alone.
    """
    requests, members = _members(requests)
    data, task, settings = members[0].data, members[0].task, members[0].settings
    learner = FusedLearner([parts.learner for parts in members], members[0].batch())
    interrupts = StopFlag()
    with contextlib.ExitStack() as open_folders:
        claims = [open_folders.enter_context(claim_run(request)) for request in requests]
        begun: list[Session] = []
        try:
            for request, parts, claim in zip(requests, members, claims, strict=True):
                begun.append(open_folders.enter_context(open_session(request, parts, claim, fused=True)))
            if len({one.step for one in begun}) > 1:
                raise Unfusable("they are not all at the same step")
            messages.opening_together(requests, members[0], [claim.folder for claim in claims], begun[0].step)
            with (
                interrupts,
                progress(members[0].steps, requests[0].config["progress"], begun[0].step) as shown,
            ):
                fit(learner, data, task, [one.run for one in begun], settings, shown, interrupts)
        except Exception as error:
            for one in begun:
                one.run.end("interrupted", f"not together with others: {reason(error)}")
            folders = zip(requests, claims, strict=True)
            if removed := [request.id for request, claim in folders if not claim.folder.exists()]:
                raise FoldersRemoved(error, removed) from error
            raise
    for claim, one in zip(claims, begun, strict=True):
        messages.closing_together(claim.folder, one.ended)
    return interrupts.signal


def _members(requests: Sequence[Request]) -> tuple[list[Request], list[Parts]]:
    """Those of the runs that can be built, and their parts, which share the data.

    Raises:
        UsageError: less than two can; of one that cannot.
        Unfusable: the data depend on the run.
    """
    able: list[Request] = []
    members: list[Parts] = []
    fault = UsageError([])
    for request in requests:
        try:
            parts = from_config.build(request, shared=members[0].data if len(members) > 1 else None)
        except UsageError as error:
            fault = error
            continue
        if members and parts.data.sha256 != members[0].data.sha256:
            raise Unfusable("the data depend on the run")
        able.append(request)
        members.append(replace(parts, data=members[0].data) if members else parts)
    if len(able) < 2:
        raise fault
    return able, members
