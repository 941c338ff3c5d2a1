"""Files that are locked, and tell who holds them.

Locks are flock's: they belong to the open file, so the kernel frees them however the holder ends. Processes
that the holder has forked close theirs at once, else a worker that outlives it would keep the run.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

_descriptors: set[int] = set()  # of all locks that this process has open


def open_(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """Its descriptor; made if missing."""
    lock = os.open(path, flags, 0o644)
    _descriptors.add(lock)
    return lock


def is_own(lock: int) -> bool:
    """Whether a descriptor is that of a lock which this process has opened itself."""
    return lock in _descriptors


def close_(lock: int) -> None:
    """Frees and closes it."""
    _descriptors.discard(lock)
    os.close(lock)


def _close_in_child() -> None:
    for lock in _descriptors:
        os.close(lock)
    _descriptors.clear()


os.register_at_fork(after_in_child=_close_in_child)


def flock(lock: int, kind: int) -> bool:
    """Whether the lock could be had at once."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(lock: int, path: Path) -> bool:
    """Whether an open file is still the one that its path names."""
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False


def write(lock: int, text: str) -> None:
    """Replaces what a lock tells; its first line is whole whenever the process dies."""
    content = text.encode()
    os.pwrite(lock, content, 0)
    os.ftruncate(lock, len(content))


def read(lock: int) -> str:
    """What a lock tells."""
    return os.pread(lock, 2**16, 0).decode(errors="replace")


def told(lock: int) -> str:
    """What a lock tells; waits for a line that is still being written."""
    for _ in range(50):
        if "\n" in (text := read(lock)):
            return text
        time.sleep(0.01)
    return "another process\n"


def holder(lock: int) -> str:
    """Who holds a lock."""
    return told(lock).partition("\n")[0]
