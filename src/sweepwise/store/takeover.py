"""A run's folder taken away from an earlier attempt of the same Slurm job, which may still live and write.

Slurm starts a job again when it has lost the job's node, and processes there may go on. Those write by the
descriptor of their folder (`anchor`). So the new attempt makes a folder of its own: every folder and every
file that grows is new, only files of checkpoints, which nobody changes, are shared. Then it puts its folder
in the place of the other. Whatever the old attempt writes or removes from then on, it does elsewhere.

Beside NAME, under the lock of the experiment:
    .NAME.copy      is being made
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
from sweepwise.store.attempt import LET_GO, attempts
from sweepwise.store.folders import CHECKPOINTS, LOCK, RECORD
from sweepwise.system import atomic, handle

COPY, FENCED = ".copy", ".fenced"
TRIES = 1000


class TakenOver(Failure):
    """A newer attempt has taken the run's folder over."""


def refuse_taken(path: Path) -> None:
    """Ends a process that has lost its folder; what it has written since then is lost anyway.

    Args:
        path: at or below an anchor; any other path is let through.

    Raises:
        Fenced: another folder is in its place.
    """
    held = handle.above(path)
    if not held or held.in_place():
        return
    with contextlib.suppress(OSError):  # nothing is there
        line = (held.name / LOCK).read_text().partition("\n")[0].removesuffix(LET_GO)
        host = re.search(r" on (\S+)", line)
        by = attempts(line)
        who = f"{by[0][0]} on {host[1]}" if by and host else line
        raise TakenOver(f"{held.name}: this run was taken over by {who}; nothing more is written")


def refuse_lost(path: Path) -> None:
    """As `refuse_taken`, also where nothing is in the folder's place.

    Raises:
        Fenced: see there.
        FileNotFoundError: the folder was removed or renamed.
    """
    refuse_taken(path)
    held = handle.above(path)
    if held and not held.in_place():
        raise FileNotFoundError(errno.ENOENT, f"{held.name}: was removed while the run trained")


def copied(folder: Path) -> Path:
    """A copy of a run's folder beside it, without what is unfinished; it shares no folder and no log with it.

    Raises:
        OSError: it cannot be made, or changes all the time.
    """
    copy = _beside(folder, COPY)
    for _ in range(TRIES):
        atomic.remove(copy)
        before = _state(folder)
        with contextlib.suppress(FileNotFoundError):  # its process goes on, and removes what is old
            _carry(folder, copy)
            if _state(folder) == before:  # so the record fits the checkpoints
                atomic.sync_all(copy)
                return copy
    raise OSError(errno.EBUSY, "it changes all the time", str(folder))


def exchange(copy: Path, folder: Path) -> None:
    """Puts a copy in the place of a run's folder; for microseconds there is none."""
    fenced = _beside(folder, FENCED)
    os.rename(folder, fenced)
    os.rename(copy, folder)
    atomic.sync(folder.parent)
    _remove(fenced)


def recover(folder: Path) -> None:
    """Undoes what a process that has died within `copied` or `exchange` has left, or completes it."""
    fenced = _beside(folder, FENCED)
    if os.path.lexists(fenced):
        if os.path.lexists(folder):
            _remove(fenced)
        else:
            os.rename(fenced, folder)
            atomic.sync(folder.parent)
    if os.path.lexists(copy := _beside(folder, COPY)):
        atomic.remove(copy)


def recover_run(home: Path, run_id: str) -> None:
    """As `recover`, where a run's folder is missing, for whatever name it had."""
    for fenced in home.glob(f".*-{run_id}{FENCED}"):
        recover(fenced.with_name(fenced.name[1:].removesuffix(FENCED)))


def _beside(folder: Path, ending: str) -> Path:
    return folder.with_name(f".{folder.name}{ending}")


def _state(folder: Path) -> tuple[bytes, list[str]]:
    """What must not have changed while a folder was copied: its record, and which checkpoints there are."""
    record, checkpoints = folder / RECORD, folder / CHECKPOINTS
    return (
        record.read_bytes() if record.exists() else b"",
        sorted(path.name for path in checkpoints.glob("[!.]*")),
    )


def _carry(source: Path, target: Path, *, share: bool = False) -> None:
    """Copies a folder; the checkpoints first, so that no log ends before them.

    Args:
        source: the folder.
        target: must not exist.
        share: its files stay the same ones, as nobody writes to them.
    """
    os.mkdir(target)
    for path in sorted(source.iterdir(), key=lambda path: path.name != CHECKPOINTS):
        to = target / path.name
        if path.name == LOCK or (path.name.startswith(".") and path.name.endswith(atomic.ASIDE)):
            continue
        if path.is_symlink():
            os.symlink(os.readlink(path), to)
        elif path.is_dir():
            _carry(path, to, share=source.name == CHECKPOINTS)
        elif not (share and _linked(path, to)):
            atomic.copy(path, to)
    shutil.copystat(source, target)


def _linked(path: Path, to: Path) -> bool:
    """Whether a file could get a second name; not every file system has that."""
    try:
        os.link(path, to)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def _remove(fenced: Path) -> None:
    """Removes a folder in which a process may still be writing."""
    for _ in range(TRIES):
        with contextlib.suppress(OSError):
            return atomic.remove(fenced)
