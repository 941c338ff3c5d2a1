"""What an experiment's folder holds, listed again only as far as it may have changed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

SECONDS_NS, TICKS_NS = 3 * 10**9, 10**8  # of file systems that keep times by the second, and of others
NEVER = -1  # stands for a time that no folder has


class _Listing(NamedTuple):
    """What an experiment's folder held.

    Attributes:
        changed: its time, if a later change surely has another; else `NEVER`.
        there: all names in it.
        names: those of the folders of runs, by id; of several for one run the first.
    """

    changed: int
    there: frozenset[str]
    names: dict[str, str]


_NOTHING = _Listing(NEVER, frozenset(), {})
_listed: dict[str, _Listing] = {}  # of the experiment that was looked at last
_held: set[str] = set()  # folders to which nobody else adds a run at the moment


def names(home: Path) -> Mapping[str, str]:
    """The names of the folders of an experiment's runs, by id."""
    return _listing(str(home)).names


def all_names(home: Path) -> frozenset[str]:
    """All names in an experiment's folder."""
    return _listing(str(home)).there


def still_there(home: Path, run_id: str) -> str:
    """The name under which a run's folder was listed last, if it is there; else ''."""
    name = _listed.get(str(home), _NOTHING).names.get(run_id, "")
    return name if name and os.path.isdir(f"{home}/{name}") else ""


@contextlib.contextmanager
def unchanged(home: Path) -> Iterator[None]:
    """While entered, a folder is listed once: by the holder of its lock, who alone adds folders of runs."""
    path = str(home)
    _listed.pop(path, None)
    _held.add(path)
    try:
        yield
    finally:
        _held.discard(path)
        _listed.pop(path, None)


def _listing(path: str) -> _Listing:
    """What a folder holds; it is listed again where it has changed since, or so lately that no time tells."""
    before = _listed.get(path)
    if before and path in _held:
        return before
    before = before or _NOTHING
    try:
        changed = _changed(path)
        if before.changed == changed:
            return before
        began = time.time_ns()
        there = frozenset(os.listdir(path))
    except OSError:
        return _NOTHING
    gone = not before.there <= there
    found = {} if gone else dict(before.names)
    for name in there if gone else there - before.there:
        if "-" in name and name[0] != ".":
            run = name.rpartition("-")[2]
            found[run] = min(name, found.get(run, name))
    _listed.clear()
    _listed[path] = _Listing(changed if began - changed > _pace(changed) else NEVER, there, found)
    return _listed[path]


def _changed(path: str) -> int:
    """When a folder changed last; opened for that, as NFS asks its server then, and not at a mere stat."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return os.fstat(handle).st_mtime_ns
    finally:
        os.close(handle)


def _pace(changed_ns: int) -> int:
    """Nanoseconds after which another change has surely another time, in a file system that has this one."""
    return SECONDS_NS if changed_ns % 10**9 == 0 else TICKS_NS
