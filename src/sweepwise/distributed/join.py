"""Joins this process to the others that train the same run, if there are any."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

from sweepwise.distributed.place import await_name, place
from sweepwise.distributed.world import SINGLE_PROCESS, World


def join_world() -> AbstractContextManager[World]:
    """A context that joins the world of this process and leaves it at the end.

    Raises:
        UsageError: torchrun's variables are wrong.
        PeerLost: the other processes do not start in time, or one is gone before the end.
    """
    here = place()
    if here.size == 1:
        return nullcontext(SINGLE_PROCESS)
    await_name(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    from sweepwise.distributed.ranks import rendezvous

    return rendezvous(here)
