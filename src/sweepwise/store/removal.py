"""Removes runs' folders, and what killed processes have left; a kill in between leaves no half of a run.

A folder is first renamed to a temporary name, by which no run is found, and its record goes before all else.
Only what this package has written is touched: no link, and no folder with files of others in it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sweepwise.store import folders, record, takeover
from sweepwise.store.claim import Busy, claim_folder, is_held
from sweepwise.store.folders import LOCK, RECORD
from sweepwise.system import atomic, disk

OWN = re.compile(
    r"config\.yaml|record\.json|code\.json|code\.diff|prediction\.json|metrics\.jsonl|checkpoints|\.lock"
    rf"|events\.out\.tfevents\..*|{re.escape(folders.COLUMNS)}|\.[0-9a-f]{{16}}\.tmp"
)
RUN_NAME = re.compile(r"[^.].*-[0-9a-f]{8}")
ASIDE_NAME = re.compile(r"\.[0-9a-f]{16}\.tmp")
BESIDE_NAME = re.compile(r"\.(.+-[0-9a-f]{8})(\.copy|\.fenced)")  # see `takeover`
OLD_SECONDS = 3600  # of a temporary file; no process writes one as long


def runs(home: Path) -> Iterator[Path]:
    """The folders of an experiment's runs: those that hold a record with the id that their name ends in.

    Raises:
        OSError: the folder cannot be read.
    """
    for path in sorted(home.iterdir()):
        if RUN_NAME.fullmatch(path.name) and _is_folder(path) and (path / RECORD).is_file():
            with contextlib.suppress(record.DamagedRecord):  # nobody knows whose that is
                if path.name.endswith(f"-{record.read(path).get('id')}"):
                    yield path


def foreign(folder: Path) -> list[str]:
    """The names of what is in a run's folder and was not written by the run."""
    return sorted(
        entry.name for entry in folder.iterdir() if entry.is_symlink() or not OWN.fullmatch(entry.name)
    )


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder, each once; links count as themselves."""
    total, files = path.lstat().st_size, dict[tuple[int, int], int]()
    if _is_folder(path):
        for level, _, names in os.walk(path):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    about = os.lstat(os.path.join(level, name))
                    files[about.st_dev, about.st_ino] = about.st_size
    return total + sum(files.values())


def remove(folder: Path, known: Mapping[str, Any], forget: Callable[[], object] = lambda: None) -> None:
    """Removes a run's folder.

    Args:
        folder: the run's.
        known: its record as it was when the run was chosen; {} if it had none.
        forget: called when the folder is claimed, before it is removed.

    Raises:
        Busy: a process holds the folder, or the run has gone on since.
        OSError: it cannot be removed; whatever is left of it has a temporary name.
    """
    claim = claim_folder(folder, probed=False)
    try:
        if record.read(folder) != known or foreign(folder):
            raise Busy(f"{folder} has changed since it was looked at")
        forget()
        aside = atomic.aside_of(folder)
        os.rename(folder, aside)
        disk.sync(folder.parent)
        discard(aside)
    finally:
        claim.release()


def discard(aside: Path) -> None:
    """Removes a folder with a temporary name; its lock, by which it is known to be dead, comes last."""
    folders.clear(aside)
    shutil.rmtree(aside)


def leftovers(home: Path) -> list[Path]:
    """What killed processes have left in an experiment's folder: temporary names, folders without a run.

    Raises:
        OSError: the folder cannot be read.
    """
    found = [path for path in sorted(home.iterdir()) if _is_leftover(path)]
    inside = [path for run in runs(home) if not is_held(run) for path in _asides(run)]
    beside = (home / name for name in (folders.SWEEP, folders.SHARED))
    sweep = [path for level in beside for path in _asides(level) if _is_old(path)]
    return [*found, *inside, *sweep]


def remove_leftover(path: Path) -> bool:
    """Removes something from `leftovers`, unless a process uses it by now; returns whether it is gone.

    Raises:
        OSError: it cannot be removed.
    """
    home = path.parent
    if beside := BESIDE_NAME.fullmatch(path.name):
        with contextlib.suppress(Busy):  # claiming a run cleans up behind a takeover
            claim_folder(home / beside[1], probed=False).release()
    elif RUN_NAME.fullmatch(path.name):
        with contextlib.suppress(Busy):
            remove(path, {})
    elif (home / RECORD).exists():  # inside a run's folder
        with contextlib.suppress(Busy):
            claim = claim_folder(home, probed=False)
            try:
                atomic.remove(path)
            finally:
                claim.release()
    elif _is_leftover(path) or _is_old(path):
        discard(path) if _is_folder(path) else path.unlink()
    return not os.path.lexists(path)


def _is_leftover(path: Path) -> bool:
    """Whether something beside the runs was left by a process that lives no more."""
    with contextlib.suppress(OSError):  # it is gone, or cannot be read
        if RUN_NAME.fullmatch(path.name):
            return _is_folder(path) and folders.is_bare(path) and not is_held(path)
        if beside := BESIDE_NAME.fullmatch(path.name):
            run = path.with_name(beside[1])
            return _is_folder(path) and not is_held(run) and (run.exists() or beside[2] == takeover.COPY)
        if ASIDE_NAME.fullmatch(path.name):
            return not is_held(path) if (path / LOCK).exists() else _is_old(path)
    return False


def _asides(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("**/.*.tmp") if ASIDE_NAME.fullmatch(path.name))


def _is_old(path: Path) -> bool:
    return time.time() - path.lstat().st_mtime > OLD_SECONDS


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
