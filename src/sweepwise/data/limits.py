"""The limit on the memory that a data file may take."""

import os
from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup/memory.max")


def memory() -> int:
    """The memory of this machine, or of its container if that has less, in bytes."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(machine, int(CONTROL_GROUP.read_text()))
    except (OSError, ValueError):  # no control group, or one without a limit ('max')
        return machine


def refuse_larger(where: str, size: int, what: str = "its content") -> None:
    """Refuses data that take more than half of the memory, as a training needs a scaled copy of them.

    Args:
        where: the config key and value, for messages.
        size: bytes in memory.
        what: takes them, for messages.

    Raises:
        ValueError: it is too large.
    """
    most = memory() // 2
    if size > most:
        raise ValueError(
            f"{where}: {what} would take {size:,} bytes, more than half of the memory ({most:,}); "
            "use data=memmap, which reads .npy files batch by batch"
        )
