"""What a run's folder is made of: names of its files, clearing it, testing that it can be written."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

from sweepwise.system import atomic, disk
from sweepwise.system.handle import readable

LINES = "metrics.jsonl"
RECORD = "record.json"
CODE = "code.json"  # the hash of each source file, see `provenance.hashes`
DIFF = "code.diff"  # how the code differs from its commit; missing where it does not
SHARED = ".shared"  # beside the runs, files that they have in common, see `shared`
SWEEP = ".sweep"  # a sweep's own files, beside the folders of its runs
SEARCH = "search.jsonl"  # in it, what a search has decided
MEAN = "_mean"  # what TensorBoard shows of the settings of a sweep; no folder in it is a run's
CHECKPOINTS = "checkpoints"
COLUMNS = "columns.tfevents"  # of TensorBoard's HParams tab, in one run of an experiment
LOCK = ".lock"  # see `claim`; a folder that holds nothing else was made for nothing
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF)
PROBE_BYTES = 65536


def clear(folder: Path) -> None:
    """Removes everything in a run's folder but its lock; links are removed, what they point to stays.

    The record is removed first: if the process is killed in between, or the power fails, the folder counts as
    one without a run, not as that of a run that has ended without its files.

    Raises:
        OSError: something cannot be removed.
    """
    if (folder / RECORD).exists():
        (folder / RECORD).unlink()
        disk.sync(folder)
    for entry in folder.iterdir():
        if entry.name != LOCK:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def remove_empty(made: list[Path]) -> None:
    """Removes those of the folders that hold nothing but a lock, the innermost first."""
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


def beginning(run: Path) -> list[Path]:
    """What was written when a run began: its files, its folder, and the one that has its name.

    The disk may get it later, but not after the first checkpoint or the record of the end.
    """
    files = [Path(entry.path) for entry in os.scandir(run) if entry.is_file(follow_symlinks=False)]
    return [run / os.pardir, run, *files]


def probe(folder: Path) -> None:
    """Writes 64 KiB and removes them, so that a full or read-only disk is noticed before the training."""
    path = atomic.aside_of(folder / RECORD)
    try:
        path.write_bytes(bytes(PROBE_BYTES))
    finally:
        path.unlink(missing_ok=True)


def explained(home: Path | None, error: OSError) -> str:
    """Why a folder cannot be used and what would help, in one line."""
    if not home and not error.filename:
        return f"{error.strerror or readable(error)}; output_dir=FOLDER names another folder"
    path = Path(readable(error.filename or home))
    if path.name.startswith(".") and path.name.strip("."):  # one of our own files in the folder
        path = path.parent
    if error.errno in NO_LOCKS and not error.filename:
        return (
            f"{home}: its file system cannot lock files ({error.strerror}), so two processes could train one "
            "run at once; output_dir=FOLDER names a folder on another file system"
        )
    why = error.strerror or readable(error)
    return f"{path} cannot be written ({why}); output_dir=FOLDER names another folder"


def steps_taken(run: Path) -> int:
    """The step of a run's newest checkpoint, by its name; 0 without one."""
    names = [path.name for path in (run / CHECKPOINTS).glob("step-*")]
    return max((int(name.removeprefix("step-").partition(".")[0]) for name in names), default=0)
