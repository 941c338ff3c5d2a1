"""Folders of runs: made as a whole or not at all, tried before use, cleared without following links."""

from __future__ import annotations

import contextlib
import errno
import shutil
from pathlib import Path

from sweepwise.system import atomic
from sweepwise.system.handle import readable

LINES = "metrics.jsonl"


RECORD = "record.json"
SWEEP = ".sweep"  # a sweep's own files, beside the folders of its runs
CHECKPOINTS = "checkpoints"
LOCK = ".lock"  # belongs to `lock`; a folder that holds nothing else was made for nothing
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF)
PROBE_BYTES = 65536


def clear(folder: Path) -> None:
    """Removes all that is in a run's folder but its lock; links go, what they point to stays.

    The record goes first: a run that is killed in between is then one that has never been, not one that has
    ended without its files.

    Raises:
        OSError: something cannot be removed.
    """
    (folder / RECORD).unlink(missing_ok=True)
    for entry in folder.iterdir():
        if entry.name != LOCK:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def remove_empty(made: list[Path]) -> None:
    """Takes folders away again as far as they hold nothing but a lock, the innermost first."""
    with contextlib.suppress(OSError):
        while made and (is_bare(made[-1]) or not any(made[-1].iterdir())):
            (made[-1] / LOCK).unlink(missing_ok=True)
            made.pop().rmdir()


def is_bare(folder: Path) -> bool:
    """Whether a folder holds a lock and nothing else."""
    try:
        return [entry.name for entry in folder.iterdir()] == [LOCK]
    except OSError:
        return False


def probe(folder: Path) -> None:
    """Writes a little and removes it, so that a full or read-only place is told before the training."""
    path = atomic.aside_of(folder / RECORD)
    try:
        path.write_bytes(bytes(PROBE_BYTES))
    finally:
        path.unlink(missing_ok=True)


def explained(home: Path | None, error: OSError) -> str:
    """What is wrong with a place and what would help, in one line."""
    if not home and not error.filename:
        return f"{error.strerror or readable(error)}; output_dir=FOLDER names another place"
    place = Path(readable(error.filename or home))
    if place.name.startswith(".") and place.name.strip("."):  # a file of ours in it
        place = place.parent
    if error.errno in NO_LOCKS and not error.filename:
        return (
            f"{home}: its file system cannot lock files ({error.strerror}), so two processes could train one "
            "run at once; output_dir=FOLDER names a place on another file system"
        )
    why = error.strerror or readable(error)
    return f"{place} cannot be written ({why}); output_dir=FOLDER names another place"


def steps_taken(run: Path) -> int:
    """Steps before a run's newest checkpoint, as its name tells; 0 without one."""
    names = [path.name for path in (run / CHECKPOINTS).glob("step-*")]
    return max((int(name.removeprefix("step-").partition(".")[0]) for name in names), default=0)
