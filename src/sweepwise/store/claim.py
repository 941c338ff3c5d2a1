"""Claims a run's folder for one process: finds or makes it, locks it, and checks that it can be written.

The lock is free again when its holder dies. Within a Slurm job a later attempt does not wait for an earlier
one: it takes the folder over (`takeover`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from sweepwise.store import folders, listing, takeover
from sweepwise.store.attempt import Attempt, released, signed
from sweepwise.store.folders import LOCK
from sweepwise.store.request import Request
from sweepwise.system import atomic, flock
from sweepwise.system.handle import FolderHandle

PATIENCE_SECONDS = 60.0  # one holder needs the experiment's lock for milliseconds, longer to take a run over
RETRIES = 100


class Busy(RuntimeError):
    """Another process trains the run, or holds a lock that is needed."""


@dataclass(eq=False)
class Claim:
    """A run's folder that belongs to this process until it is released, or the process ends.

    Attributes:
        folder: path of the run's folder.
    """

    folder: Path
    _handle: FolderHandle
    _lock: int
    _made: list[Path]
    _attempt: Attempt | None
    _owner: int = field(default_factory=os.getpid)

    @property
    def inside(self) -> Path:
        """The folder by its descriptor; all files of the run are written through it.

        So this process cannot write into the folder of a later attempt that has taken the run over.
        """
        return self._handle.path

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Releases the folder.

        Raises:
            TakenOver: a later attempt has taken the folder over; this replaces any other error.
        """
        try:
            if error is None or isinstance(error, Exception):
                takeover.refuse_taken(self.inside)
        finally:
            self.release()

    def release(self) -> None:
        """Frees the folder; removes it if nothing was written into it. Does nothing in a forked child."""
        if not flock.is_own(self._lock) or self._owner != os.getpid():
            return
        try:
            with contextlib.suppress(OSError, Busy):
                if self._attempt:  # may have been taken over, so what has its name may be another's
                    flock.write(self._lock, released(flock.read(self._lock)))
                elif self._made and folders.is_bare(self.folder):
                    with _experiment_lock(self.folder.parent, self._made):
                        folders.remove_empty(self._made)
        finally:
            flock.close_(self._lock)
            self._lock = -1
            self._handle.close()


def claim_run(request: Request, *, probed: bool = True) -> Claim:
    """Claims a run's folder for this process. What an earlier attempt left in it stays; see `folders.clear`.

    The folder is looked up and made under a lock of the experiment's folder, so a run that is started in two
    ways at once gets one folder. The disk may get its name later, with its first checkpoint or its end.

    Args:
        request: the run.
        probed: whether to try if there is room on the disk; of the runs of a group one is enough.

    Raises:
        Busy: another process holds the folder.
        OSError: the folder cannot be made, locked or written; what was made for it is gone.
    """
    return _open_claim(request.home, request, probed=probed)


def claim_runs(requests: Sequence[Request]) -> list[Claim]:
    """As `claim_run` for the runs of a group, all of them or none; one of each experiment must have room."""
    claims: dict[str, Claim] = {}
    with contextlib.ExitStack() as undo:
        for home in dict.fromkeys(request.home for request in requests):
            own = [request for request in requests if request.home == home]
            made: list[Path] = []
            with _explained(home), _experiment_lock(home, made), listing.unchanged(home):
                for request in own:
                    first = request is own[0]
                    claims[request.id] = _claimed(request, made if first else [], probed=first)
                    undo.enter_context(claims[request.id])
        undo.pop_all()
    return [claims[request.id] for request in requests]


def claim_folder(folder: Path, *, probed: bool = True) -> Claim:
    """As `claim_run`, for a folder whose path is known.

    Args:
        folder: the path.
        probed: whether it must be possible to write into it; a full disk is no reason not to remove it.

    Raises:
        Busy: another process holds the folder.
        OSError: it cannot be made, locked or written.
    """
    return _open_claim(folder.parent, folder, probed=probed)


def _open_claim(home: Path, run: Request | Path, *, probed: bool = True) -> Claim:
    made: list[Path] = []
    with _explained(home), _experiment_lock(home, made):
        return _claimed(run, made, probed=probed)


@contextlib.contextmanager
def _explained(home: Path) -> Iterator[None]:
    """Says of an error of the system what would help."""
    try:
        yield
    except OSError as error:
        raise OSError(folders.explained(home, error)) from error


def _claimed(run: Request | Path, above: Sequence[Path], *, probed: bool) -> Claim:
    """Claims a run's folder, by the holder of its experiment's lock.

    Args:
        run: the run, or its folder.
        above: folders that were made for it.
        probed: whether it must be possible to write into it.
    """
    own = Attempt.here()
    folder = _recovered(run)
    made = [*above, *atomic.make_folder(folder, durable=False)]
    handle, lock = _lock_folder(folder, own)
    try:
        if probed:
            folders.probe(handle.path)
    except BaseException:
        folders.remove_empty(made)
        flock.close_(lock)
        handle.close()
        raise
    return Claim(folder, handle, lock, made, own)


def _recovered(run: Request | Path) -> Path:
    """The path of a run's folder, after cleaning up a takeover during which a process has died."""
    folder = run.folder if isinstance(run, Request) else run
    takeover.recover(folder)
    if isinstance(run, Request) and not folder.exists() and takeover.recover_run(run.home, run.id):
        return run.folder
    return folder


@contextlib.contextmanager
def _experiment_lock(home: Path, made: list[Path]) -> Iterator[None]:
    """While entered, holds the lock of an experiment's folder; folders that it makes are added to `made`.

    After an error those of them that hold nothing are removed.
    """
    holder_before, deadline = "", 0.0
    for _ in range(RETRIES):
        lock, mine = -1, False
        try:
            made += [level for level in atomic.make_folder(home) if level not in made]
            lock = flock.open_(home / LOCK)
            while not flock.flock(lock, fcntl.LOCK_EX):
                if (line := flock.holder(lock)) != holder_before:
                    holder_before, deadline = line, time.monotonic() + PATIENCE_SECONDS
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
    above = next(level for level in home.parents if level.exists())
    why = f"no folder can be made in {above}, or each was removed at once, {RETRIES} times"
    raise FileNotFoundError(errno.ENOENT, why, str(home))


def _lock_folder(folder: Path, own: Attempt | None) -> tuple[FolderHandle, int]:
    """Opens and locks a run's folder; returns it and the descriptor of its lock.

    Raises:
        Busy: another process holds it that is no earlier attempt of this job; or a later attempt has held it.
        OSError: the file cannot be opened or locked.
    """
    for _ in range(RETRIES):
        folder.mkdir(exist_ok=True)  # another process may have made it, found no use for it and removed it
        with contextlib.ExitStack() as undo:
            handle, lock = _open_folder(folder, undo)
            if own and not handle.by_descriptor:
                raise OSError(
                    errno.ENOSYS,
                    "there is no /proc, which is needed as Slurm may start a job twice",
                    str(folder),
                )
            free = flock.flock(lock, fcntl.LOCK_EX)
            only_read = not free and flock.flock(lock, fcntl.LOCK_SH)  # by `holder` for a moment
            if not only_read and handle.in_place() and flock.is_at(lock, handle.path / LOCK):
                if not _check_free(folder, lock, own, free):
                    return _take_over(folder, own, flock.wait_and_read(lock))
                flock.write(lock, signed(own, flock.read(lock)))
                undo.pop_all()
                return handle, lock
        time.sleep(0.001)
    raise Busy(f"{folder}: its lock was in use at each of {RETRIES} attempts; try again")


def _open_folder(
    folder: Path, undo: contextlib.ExitStack, name: Path | None = None
) -> tuple[FolderHandle, int]:
    """Opens a folder and its lock file; returns it and the descriptor of the lock."""
    handle = FolderHandle(folder, name)
    undo.callback(handle.close)
    lock = flock.open_(handle.path / LOCK)
    undo.callback(flock.close_, lock)
    return handle, lock


def _check_free(folder: Path, lock: int, own: Attempt | None, free: bool) -> bool:
    """Whether a folder is free; False if it has to be taken over from an earlier attempt of the same job.

    Raises:
        Busy: it is neither free nor may it be taken over.
    """
    text = flock.read(lock) if free else flock.wait_and_read(lock)
    if own and (newer := own.newer(text)):
        raise Busy(
            f"{folder}: {own} must not write, since {newer} has taken the run over; if that was another job "
            f"of the same number, remove {folder / LOCK}"
        )
    if own and own.supersedes(text, held=not free):
        return False
    if not free:
        raise Busy(f"{folder} is being trained by {flock.holder(lock)}")
    return True


def _take_over(folder: Path, own: Attempt | None, text: str) -> tuple[FolderHandle, int]:
    """As `_lock_folder`, for a copy in the place of a folder in which an earlier attempt may still write.

    Args:
        folder: the run's.
        own: the attempt of this process.
        text: of the lock of the earlier attempt.
    """
    with contextlib.ExitStack() as undo:
        undo.callback(takeover.recover, folder)
        copy = takeover.copied(folder)
        handle, lock = _open_folder(copy, undo, folder)
        flock.flock(lock, fcntl.LOCK_EX)
        flock.write(lock, signed(own, text))
        os.fsync(lock)
        takeover.exchange(copy, folder)
        undo.pop_all()
    return handle, lock


def is_held(folder: Path) -> bool:
    """Whether a living process has claimed a run's folder; see `holder`."""
    return bool(holder(folder))


def holder(folder: Path) -> str:
    """The living process that has claimed a run's folder, such as 'process 17'; '' if none. Writes nothing.

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
