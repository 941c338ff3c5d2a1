"""A run's folder as one process's own: found or made, locked, writable, and free again when its holder dies.

Locks are flock's: they belong to the open file, so the kernel frees them however the holder ends. Processes
that the holder has forked close theirs at once, else a worker that outlives it would keep the run.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from sweepwise import folders
from sweepwise.folders import LOCK
from sweepwise.identity import Request

PATIENCE_SECONDS = 60.0  # for the experiment's lock, which is held for milliseconds
RETRIES = 100


class Busy(RuntimeError):
    """Another process trains the run."""


@dataclass(eq=False)
class Claim:
    """A run's folder that is this process's own until it is released, or the process ends.

    Attributes:
        folder: the run's.
    """

    folder: Path
    _lock: int
    _made: list[Path]
    _owner: int = field(default_factory=os.getpid)

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def release(self) -> None:
        """Frees the folder; removes it if it was made for nothing. In a forked child this does nothing."""
        if self._lock not in _descriptors or self._owner != os.getpid():
            return
        try:
            if self._made and folders.is_bare(self.folder):
                with contextlib.suppress(OSError, Busy), _experiment(self.folder.parent, self._made):
                    folders.remove(self._made)
        finally:
            _close(self._lock)
            self._lock = -1


_descriptors: set[int] = set()  # of all locks that this process has open


def _open(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    lock = os.open(path, flags, 0o644)
    _descriptors.add(lock)
    return lock


def _close(lock: int) -> None:
    _descriptors.discard(lock)
    os.close(lock)


def _close_in_child() -> None:
    for lock in _descriptors:
        os.close(lock)
    _descriptors.clear()


os.register_at_fork(after_in_child=_close_in_child)


def claim(request: Request) -> Claim:
    """Makes a run's folder this process's own. What an earlier attempt left in it stays; see `clear`.

    The folder is looked up and made under a lock of the experiment's folder, so a run that is asked for in
    two ways at once gets one folder.

    Raises:
        Busy: another process holds the folder.
        OSError: the folder cannot be made, locked or written; what was made for it is gone.
    """
    return _claimed(request.home, request)


def hold(folder: Path) -> Claim:
    """As `claim`, for a folder that is known.

    Raises:
        Busy: another process holds the folder.
        OSError: it cannot be made, locked or written.
    """
    return _claimed(folder.parent, folder)


def _claimed(home: Path, run: Request | Path) -> Claim:
    made: list[Path] = []
    try:
        with _experiment(home, made):
            folder = run.folder if isinstance(run, Request) else run
            made += folders.make(folder)
            lock = _open_locked(folder)
            try:
                _write_holder(lock)
                folders.probe(folder)
            except BaseException:
                folders.remove(made)
                _close(lock)
                raise
    except OSError as error:
        raise OSError(folders.explained(home, error)) from error
    return Claim(folder, lock, made)


@contextlib.contextmanager
def _experiment(home: Path, made: list[Path]) -> Iterator[None]:
    """The lock of an experiment's folder; what has to be made for it is added to `made`.

    After an error within it, what was made is gone, as far as it holds nothing.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    for _ in range(RETRIES):
        lock, mine = -1, False
        try:
            made += [level for level in folders.make(home) if level not in made]
            lock = _open(home / LOCK)
            while not _flock(lock, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise Busy(f"{home} has been locked for {PATIENCE_SECONDS:.0f} s by {_holder(lock)}")
                time.sleep(0.002)
            if mine := _is_at(lock, home / LOCK):
                _write_holder(lock)
                yield
                return
        except BaseException as error:
            if lock < 0 and isinstance(error, FileNotFoundError):
                continue  # another process has just removed what it had made
            if mine or isinstance(error, OSError):
                folders.remove(made)
            raise
        finally:
            if lock >= 0:
                _close(lock)
    raise FileNotFoundError(errno.ENOENT, "it vanishes again and again", str(home))


def _open_locked(folder: Path) -> int:
    """The descriptor of a run's lock, held by this process.

    Raises:
        Busy: another process holds it.
        OSError: the file cannot be opened or locked.
    """
    for _ in range(RETRIES):
        folder.mkdir(exist_ok=True)  # it may have been made for nothing, and is gone again
        lock = _open(folder / LOCK)
        try:
            if _flock(lock, fcntl.LOCK_EX):
                if _is_at(lock, folder / LOCK):
                    return lock
            elif not _flock(lock, fcntl.LOCK_SH):  # else nobody holds it, but somebody looks
                raise Busy(f"{folder} is being trained by {_holder(lock)}")
        except BaseException:
            _close(lock)
            raise
        _close(lock)
        time.sleep(0.001)
    raise Busy(f"{folder} is being looked at all the time")


def is_held(folder: Path) -> bool:
    """Whether a living process holds a run's folder; writes nothing.

    Raises:
        OSError: its lock cannot be read.
    """
    try:
        lock = _open(folder / LOCK, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return not _flock(lock, fcntl.LOCK_SH)
    finally:
        _close(lock)


def _flock(lock: int, kind: int) -> bool:
    """Whether the lock could be had at once."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(lock: int, path: Path) -> bool:
    """Whether an open file is still the one that its path names."""
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False


def _write_holder(lock: int) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()} on {platform.node()} since {now}\n".encode(), 0)


def _holder(lock: int) -> str:
    """Who holds a lock; waits for a line that is still being written."""
    for _ in range(50):
        line = os.pread(lock, 1000, 0).decode(errors="replace")
        if line.endswith("\n"):
            return line.strip()
        time.sleep(0.01)
    return "another process"
