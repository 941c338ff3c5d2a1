"""Files that runs of an experiment have in common, such as `code.json`: one content is on the disk once.

Each run's folder has them whole, as a hard link, so it can be copied away alone, and any other run removed.
What they link to is a file in `.shared/` beside the runs, named by its content: so a process finds it without
a look into other runs, and it stays whichever of them are removed. Where no link is possible there is a copy.

A shared file is never changed, as that would change it for other runs too, so it cannot be written into;
another content is put in its place, which parts a run from the others.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
from pathlib import Path

from sweepwise.store.folders import SHARED
from sweepwise.system import atomic

TRIES = 10
READ_ONLY = 0o444


def share(home: Path, path: Path, content: bytes) -> None:
    """Gives a run's folder a file; nothing is done if it is there.

    The file's name in the folder is not brought to the disk: that is done when the folder is synced next.

    Args:
        home: the folder of the experiment.
        path: of the file in the run's folder.
        content: of the file.

    Raises:
        OSError: it cannot be written.
    """
    if _holds(path, content):
        return
    source = home / SHARED / f"{hashlib.sha256(content).hexdigest()[:32]}.{path.name}"
    for _ in range(TRIES):
        try:
            return _link(source, path, content)
        except OSError as error:
            if error.errno == errno.EMLINK:  # as many as the file system allows: a new one takes its place
                source.unlink(missing_ok=True)
            elif error.errno != errno.ENOENT:  # else `tidy` has just removed it
                break
    atomic.write_atomic(path, content)


def _link(source: Path, path: Path, content: bytes) -> None:
    """Puts a link to a shared file, which is made if it is missing, in a run's folder."""
    if not _holds(source, content):
        source.parent.mkdir(exist_ok=True)
        atomic.write_atomic(source, content)
        source.chmod(READ_ONLY)
    atomic.put_link(source, path)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def tidy(home: Path) -> None:
    """Removes the shared files of an experiment that no run has any more, at any time.

    Raises:
        OSError: one cannot be removed.
    """
    for path in (home / SHARED).glob("[!.]*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_nlink == 1:
                path.unlink()
    with contextlib.suppress(OSError):
        (home / SHARED).rmdir()
