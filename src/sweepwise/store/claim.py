"""A run's folder as one process's own: found or made, locked, writable, and free again when its holder dies.

Within a Slurm job a later attempt does not wait for an earlier one: it takes the folder over (`fence`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from sweepwise.store import folders, takeover
from sweepwise.store.attempt import Attempt, let_go, signed
from sweepwise.store.folders import LOCK
from sweepwise.store.request import Request
from sweepwise.system import atomic, flock
from sweepwise.system.handle import FolderHandle

PATIENCE_SECONDS = 60.0  # for one holder of the experiment's lock: milliseconds, longer to take a run over
RETRIES = 100


class Busy(RuntimeError):
    """Another process trains the run."""


@dataclass(eq=False)
class Claim:
    """A run's folder that is this process's own until it is released, or the process ends.

    Attributes:
        folder: the run's, as it is named.
    """

    folder: Path
    _anchor: FolderHandle
    _lock: int
    _made: list[Path]
    _attempt: Attempt | None
    _owner: int = field(default_factory=os.getpid)

    @property
    def inside(self) -> Path:
        """The folder by its descriptor, for all that is written.

        So nothing reaches the folder of a process that has taken the run over.
        """
        return self._anchor.path

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Releases the folder.

        Raises:
            Fenced: it was taken over; whatever else went wrong, that is the cause of it.
        """
        try:
            if error is None or isinstance(error, Exception):
                takeover.refuse_taken(self.inside)
        finally:
            self.release()

    def release(self) -> None:
        """Frees the folder; removes it if it was made for nothing. In a forked child this does nothing."""
        if not flock.is_own(self._lock) or self._owner != os.getpid():
            return
        try:
            with contextlib.suppress(OSError, Busy):
                if self._attempt:  # may have been taken over, so what has its name may be another's
                    flock.write(self._lock, let_go(flock.read(self._lock)))
                elif self._made and folders.is_bare(self.folder):
                    with _experiment(self.folder.parent, self._made):
                        folders.remove_empty(self._made)
        finally:
            flock.close_(self._lock)
            self._lock = -1
            self._anchor.close()


def claim_run(request: Request) -> Claim:
    """Makes a run's folder this process's own. What an earlier attempt left in it stays; see `clear`.

    The folder is looked up and made under a lock of the experiment's folder, so a run that is asked for in
    two ways at once gets one folder.

    Raises:
        Busy: another process holds the folder.
        OSError: the folder cannot be made, locked or written; what was made for it is gone.
    """
    return _claimed(request.home, request)


def claim_folder(folder: Path) -> Claim:
    """As `claim_run`, for a folder that is known.

    Raises:
        Busy: another process holds the folder.
        OSError: it cannot be made, locked or written.
    """
    return _claimed(folder.parent, folder)


def _claimed(home: Path, run: Request | Path) -> Claim:
    made: list[Path] = []
    own = Attempt.here()
    try:
        with _experiment(home, made):
            folder = _recovered(run)
            made += atomic.make_folder(folder)
            anchor, lock = _taken(folder, own)
            try:
                folders.probe(anchor.path)
            except BaseException:
                folders.remove_empty(made)
                flock.close_(lock)
                anchor.close()
                raise
    except OSError as error:
        raise OSError(folders.explained(home, error)) from error
    return Claim(folder, anchor, lock, made, own)


def _recovered(run: Request | Path) -> Path:
    """A run's folder, also if a process has died while it took it over."""
    folder = run.folder if isinstance(run, Request) else run
    takeover.recover(folder)
    if isinstance(run, Request) and not folder.exists():
        takeover.recover_run(run.home, run.id)
        return run.folder
    return folder


@contextlib.contextmanager
def _experiment(home: Path, made: list[Path]) -> Iterator[None]:
    """The lock of an experiment's folder; what has to be made for it is added to `made`.

    After an error within it, what was made is gone, as far as it holds nothing.
    """
    seen, deadline = "", 0.0
    for _ in range(RETRIES):
        lock, mine = -1, False
        try:
            made += [level for level in atomic.make_folder(home) if level not in made]
            lock = flock.open_(home / LOCK)
            while not flock.flock(lock, fcntl.LOCK_EX):
                if (line := flock.holder(lock)) != seen:
                    seen, deadline = line, time.monotonic() + PATIENCE_SECONDS
                if time.monotonic() > deadline:
                    raise Busy(f"{home} has been locked for {PATIENCE_SECONDS:.0f} s by {line}")
                time.sleep(0.002)
            if mine := flock.is_at(lock, home / LOCK):
                flock.write(lock, signed(None, ""))
                yield
                return
        except BaseException as error:
            if lock < 0 and isinstance(error, FileNotFoundError):
                continue  # another process has just removed what it had made
            if mine or isinstance(error, OSError):
                folders.remove_empty(made)
            raise
        finally:
            if lock >= 0:
                flock.close_(lock)
    raise FileNotFoundError(errno.ENOENT, "it vanishes again and again", str(home))


def _taken(folder: Path, own: Attempt | None) -> tuple[FolderHandle, int]:
    """A run's folder and the descriptor of its lock, held by this process.

    Raises:
        Busy: another process holds it, and is no earlier attempt of this one; or a later attempt had it.
        OSError: the file cannot be opened or locked.
    """
    for _ in range(RETRIES):
        folder.mkdir(exist_ok=True)  # it may have been made for nothing, and is gone again
        with contextlib.ExitStack() as undo:
            anchor, lock = _opened(folder, undo)
            if own and not anchor.firm:
                raise OSError(errno.ENOSYS, "Slurm may start it twice, and there is no /proc", str(folder))
            free = flock.flock(lock, fcntl.LOCK_EX)
            looked_at = not free and flock.flock(lock, fcntl.LOCK_SH)  # by somebody; nobody holds it
            if not looked_at and anchor.in_place() and flock.is_at(lock, anchor.path / LOCK):
                if not _may_be_had(folder, lock, own, free):
                    return _taken_over(folder, own, flock.told(lock))
                flock.write(lock, signed(own, flock.read(lock)))
                undo.pop_all()
                return anchor, lock
        time.sleep(0.001)
    raise Busy(f"{folder} is being looked at all the time")


def _opened(folder: Path, undo: contextlib.ExitStack, name: Path | None = None) -> tuple[FolderHandle, int]:
    """A folder and the descriptor of its lock."""
    anchor = FolderHandle(folder, name)
    undo.callback(anchor.close)
    lock = flock.open_(anchor.path / LOCK)
    undo.callback(flock.close_, lock)
    return anchor, lock


def _may_be_had(folder: Path, lock: int, own: Attempt | None, free: bool) -> bool:
    """Whether a folder is free; if not, it has to be taken from an earlier attempt.

    Raises:
        Busy: neither may be done.
    """
    told = flock.read(lock) if free else flock.told(lock)
    if own and (newer := own.newer(told)):
        raise Busy(
            f"{folder}: {own} is fenced by {newer}, which has taken the run over; if that was another job "
            f"of the same number, remove {folder / LOCK}"
        )
    if own and own.supersedes(told, held=not free):
        return False
    if not free:
        raise Busy(f"{folder} is being trained by {flock.holder(lock)}")
    return True


def _taken_over(folder: Path, own: Attempt | None, told: str) -> tuple[FolderHandle, int]:
    """As `_taken`, of a new folder in the place of the one in which an earlier attempt may still write."""
    with contextlib.ExitStack() as undo:
        undo.callback(takeover.recover, folder)
        copy = takeover.copied(folder)
        anchor, lock = _opened(copy, undo, folder)
        flock.flock(lock, fcntl.LOCK_EX)
        flock.write(lock, signed(own, told))
        os.fsync(lock)
        takeover.exchange(copy, folder)
        undo.pop_all()
    return anchor, lock


def is_held(folder: Path) -> bool:
    """Whether a living process holds a run's folder; see `holder`."""
    return bool(holder(folder))


def holder(folder: Path) -> str:
    """The living process that holds a run's folder, such as 'process 17'; '' if none does. Writes nothing.

    Raises:
        OSError: its lock cannot be read.
    """
    try:
        lock = flock.open_(folder / LOCK, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    try:
        return "" if flock.flock(lock, fcntl.LOCK_SH) else flock.holder(lock) or "another process"
    finally:
        flock.close_(lock)
