"""How much memory a file may ask for, whatever it claims to hold."""

import os
from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup/memory.max")


def memory() -> int:
    """Bytes of memory that this process can have: the machine's, or those of its container."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(machine, int(CONTROL_GROUP.read_text()))
    except (OSError, ValueError):  # no control group, or one without a limit ('max')
        return machine


def refuse_larger(where: str, size: int, what: str = "its content") -> None:
    """Refuses what would take more than half of the memory: a training needs a scaled copy beside it.

    Args:
        where: what names the file in a message.
        size: bytes in memory.
        what: would take them.

    Raises:
        ValueError: it is too large.
    """
    most = memory() // 2
    if size > most:
        raise ValueError(
            f"{where}: {what} would take {size:,} bytes, more than half of the memory there is ({most:,}); "
            "data=memmap reads .npy files batch by batch"
        )
