"""How a forked process ends with the one that has forked it, whatever becomes of that."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # of Linux's prctl


def end_with(parent: int, number: signal.Signals) -> bool:
    """Has this process receive a signal when its parent ends, on Linux.

    Args:
        parent: process id, from before the fork.
        number: of the signal.

    Returns:
        Whether the parent still lives; if not, no signal comes.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    return os.getppid() == parent  # asked last, as it may have ended before the call
