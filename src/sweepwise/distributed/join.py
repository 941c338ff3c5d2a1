"""How a process joins the others that train the same run."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

from sweepwise.distributed.place import await_name, place
from sweepwise.distributed.world import SINGLE_PROCESS, World


def joined() -> AbstractContextManager[World]:
    """The world of this process, left at the end.

    Raises:
        UsageError: its variables are wrong.
        Lost: the others do not come, or go before the end.
    """
    here = place()
    if here.size == 1:
        return nullcontext(SINGLE_PROCESS)
    await_name(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    from sweepwise.distributed.ranks import met

    return met(here)
