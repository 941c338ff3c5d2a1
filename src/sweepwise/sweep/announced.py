"""Which runs a sweep on this machine is going to train, for those who look at its folder meanwhile.

A run's own folder is made when its training begins. Until then it stands in a file that the sweep holds
locked while it lives, so a sweep that was killed announces nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweepwise.store.folders import SWEEP
from sweepwise.store.request import Request
from sweepwise.system import flock

HERE = "here"  # the folder of these files


@contextlib.contextmanager
def announced(requests: Sequence[Request]) -> Iterator[None]:
    """While entered, says which runs will be trained here. Where that cannot be written it is left out."""
    by_home: dict[Path, dict[str, str]] = {}
    for request in requests:
        by_home.setdefault(request.home, {})[request.id] = request.folder.name
    with contextlib.ExitStack() as undo:
        for home, runs in by_home.items():
            with contextlib.suppress(OSError):
                undo.callback(_withdraw, *_written(home / SWEEP / HERE, runs))
        yield


def _written(folder: Path, runs: dict[str, str]) -> tuple[int, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{platform.node()}-{os.getpid()}.json"
    lock = flock.open_(path)
    flock.flock(lock, fcntl.LOCK_EX)
    os.ftruncate(lock, 0)
    os.write(lock, json.dumps(runs).encode() + b"\n")
    return lock, path


def _withdraw(lock: int, path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()  # unless another sweep is announced there
    if flock.is_own(lock):
        flock.close_(lock)


def waiting(home: Path) -> dict[str, str]:
    """The runs of sweeps that live, whether they have begun or not: the name of each one's folder, by id."""
    runs: dict[str, str] = {}
    for path in sorted((home / SWEEP / HERE).glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            lock = flock.open_(path, os.O_RDONLY)
            try:
                if not flock.flock(lock, fcntl.LOCK_SH):
                    runs |= json.loads(path.read_bytes())
            finally:
                flock.close_(lock)
    return runs
