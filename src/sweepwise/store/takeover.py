"""Takes a run's folder over from an earlier attempt of the same Slurm job, which may still live and write.

Slurm starts a job again when it has lost the job's node, and processes there may go on. Those write by the
descriptor of their folder (`FolderHandle`). So the new attempt makes a copy of the folder: every folder and
every file that grows is new; only files of checkpoints, which nobody changes, are shared. Then it puts the
copy in the place of the old folder. What the old attempt writes or removes from then on is not in the copy.

Beside NAME, under the lock of the experiment:
    .NAME.copy      the copy while it is being made
    .NAME.fenced    the folder of the old attempt; where NAME is missing, it is still the run's
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from pathlib import Path

from sweepwise.errors import Failure
from sweepwise.store.attempt import RELEASED, attempts
from sweepwise.store.folders import CHECKPOINTS, LOCK, RECORD
from sweepwise.store.listing import all_names
from sweepwise.system import atomic, disk, handle

COPY, FENCED = ".copy", ".fenced"
TRIES = 1000


class TakenOver(Failure):
    """A newer attempt of the job has taken the run's folder over."""


def refuse_taken(path: Path) -> None:
    """Raises if another attempt has taken over the folder that a path lies in.

    Args:
        path: at or below an open folder (`FolderHandle.path`); any other path is accepted.

    Raises:
        TakenOver: another folder is in its place. What was written since then is lost.
    """
    held = handle.above(path)
    if not held or held.in_place():
        return
    with contextlib.suppress(OSError):  # nothing is there
        line = (held.name / LOCK).read_text().partition("\n")[0].removesuffix(RELEASED)
        host = re.search(r" on (\S+)", line)
        by = attempts(line)
        who = f"{by[0][0]} on {host[1]}" if by and host else line
        raise TakenOver(f"{held.name}: this run was taken over by {who}; nothing more is written")


def refuse_lost(path: Path) -> None:
    """As `refuse_taken`, and also raises if the folder was removed.

    Raises:
        TakenOver: see `refuse_taken`.
        FileNotFoundError: the folder was removed or renamed.
    """
    refuse_taken(path)
    held = handle.above(path)
    if held and not held.in_place():
        raise FileNotFoundError(errno.ENOENT, f"{held.name}: was removed while the run trained")


def copied(folder: Path) -> Path:
    """Makes a copy of a run's folder beside it, without temporary files; the two share no folder and no log.

    Raises:
        OSError: it cannot be made, or the folder kept changing meanwhile.
    """
    copy = _beside(folder, COPY)
    for _ in range(TRIES):
        atomic.remove(copy)
        before = _state(folder)
        with contextlib.suppress(FileNotFoundError):  # the old process goes on, and removes old checkpoints
            _copy_folder(folder, copy)
            if _state(folder) == before:  # so the record fits the checkpoints
                disk.sync_all(copy)
                return copy
    raise OSError(errno.EBUSY, f"kept changing while it was copied ({TRIES} attempts)", str(folder))


def exchange(copy: Path, folder: Path) -> None:
    """Puts a copy in the place of a run's folder; for microseconds there is none."""
    fenced = _beside(folder, FENCED)
    os.rename(folder, fenced)
    os.rename(copy, folder)
    disk.sync(folder.parent)
    _remove(fenced)


def recover(folder: Path) -> None:
    """Cleans up, or completes, a takeover during which a process has died."""
    fenced = _beside(folder, FENCED)
    if os.path.lexists(fenced):
        if os.path.lexists(folder):
            _remove(fenced)
        else:
            os.rename(fenced, folder)
            disk.sync(folder.parent)
    if os.path.lexists(copy := _beside(folder, COPY)):
        atomic.remove(copy)


def recover_run(home: Path, run_id: str) -> bool:
    """As `recover`, where a run's folder is missing, for whatever name it had; returns whether it had one."""
    ending = f"-{run_id}{FENCED}"
    found = [name for name in all_names(home) if name.startswith(".") and name.endswith(ending)]
    for name in found:
        recover(home / name[1:].removesuffix(FENCED))
    return bool(found)


def _beside(folder: Path, ending: str) -> Path:
    return folder.with_name(f".{folder.name}{ending}")


def _state(folder: Path) -> tuple[bytes, list[str]]:
    """What must stay the same while a folder is copied: its record, and the list of its checkpoints."""
    record, checkpoints = folder / RECORD, folder / CHECKPOINTS
    return (
        record.read_bytes() if record.exists() else b"",
        sorted(path.name for path in checkpoints.glob("[!.]*")),
    )


def _copy_folder(source: Path, target: Path, *, share: bool = False) -> None:
    """Copies a folder; the checkpoints first, so that no log ends before them.

    Args:
        source: the folder.
        target: must not exist.
        share: gives the same files a second name instead of copying them, as nobody writes to them.
    """
    os.mkdir(target)
    for path in sorted(source.iterdir(), key=lambda path: path.name != CHECKPOINTS):
        to = target / path.name
        if path.name == LOCK or (path.name.startswith(".") and path.name.endswith(atomic.ASIDE)):
            continue
        if path.is_symlink():
            os.symlink(os.readlink(path), to)
        elif path.is_dir():
            _copy_folder(path, to, share=source.name == CHECKPOINTS)
        elif not (share and atomic.linked(path, to)):
            atomic.copy(path, to)
    shutil.copystat(source, target)


def _remove(fenced: Path) -> None:
    """Removes a folder in which a process may still be writing."""
    for _ in range(TRIES):
        with contextlib.suppress(OSError):
            return atomic.remove(fenced)
