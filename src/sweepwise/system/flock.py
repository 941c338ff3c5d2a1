"""Lock files, whose text says who holds them.

Locks are flock's: they belong to the open file, so the kernel frees them however the holder ends. Processes
that the holder forks close their copy at once; else a worker that outlives the holder would keep the lock.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

_descriptors: set[int] = set()  # of all locks that this process has open


def open_(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """Opens a lock file, made if it is missing; returns its descriptor."""
    lock = os.open(path, flags, 0o644)
    _descriptors.add(lock)
    return lock


def is_own(lock: int) -> bool:
    """Whether a descriptor is that of a lock file which this process has opened itself."""
    return lock in _descriptors


def close_(lock: int) -> None:
    """Frees a lock and closes its file."""
    _descriptors.discard(lock)
    os.close(lock)


def flock(lock: int, kind: int) -> bool:
    """Takes a lock if it is free; returns whether it was."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(lock: int, path: Path) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False


def write(lock: int, text: str) -> None:
    """Replaces the text of a lock file; its first line is complete whenever the process dies."""
    content = text.encode()
    os.pwrite(lock, content, 0)
    os.ftruncate(lock, len(content))


def read(lock: int) -> str:
    """The text of a lock file, as far as it is written."""
    return os.pread(lock, 2**16, 0).decode(errors="replace")


def wait_and_read(lock: int) -> str:
    """The text of a lock file; waits up to half a second for a line that is still being written."""
    for _ in range(50):
        if "\n" in (text := read(lock)):
            return text
        time.sleep(0.01)
    return "another process\n"


def holder(lock: int) -> str:
    """Who holds a lock, by its text, such as 'process 17 on node1 since ...'."""
    return wait_and_read(lock).partition("\n")[0]


def _close_in_child() -> None:
    for lock in _descriptors:
        os.close(lock)
    _descriptors.clear()


os.register_at_fork(after_in_child=_close_in_child)
