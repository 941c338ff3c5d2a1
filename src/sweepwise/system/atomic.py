"""Files that survive a crash and a power failure: written aside, synced, then put in place in one step.

After a kill at any moment a name holds what it held before or the new content, never a part of it; after a
power failure too, since contents are on the disk before the name that shows them.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

ASIDE = ".tmp"  # the ending of temporary names


def write_atomic(path: Path, content: bytes) -> None:
    """Replaces a file.

    Raises:
        OSError: it could not be written; the old file is still there, and nothing beside it.
    """
    aside = aside_of(path)
    try:
        _write(aside, content)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Makes a folder that holds these files, all of them from the moment it is there.

    Args:
        folder: must not exist; its parent must.
        files: content by name.

    Raises:
        FileExistsError: there is already one that holds something.
        OSError: it could not be written; nothing is left of it.
    """
    with new_folder(folder) as aside:
        for name, content in files.items():
            _write(aside / name, content)
        sync(aside)


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Makes a folder that appears in one step, with all that was written into it inside the `with`.

    The caller brings its files to the disk (`sync`, `sync_all`).

    Args:
        folder: must not exist; its parent must.

    Yields:
        An empty folder beside it, for the files.

    Raises:
        FileExistsError: there is already one that holds something, perhaps since a moment ago.
        OSError: it could not be made; nothing is left of it.
    """
    aside = aside_of(folder)
    try:
        aside.mkdir()
        yield aside
        _take_place(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync(folder.parent)


def _take_place(aside: Path, folder: Path) -> None:
    """Renames a folder to a name that is free; systems have several errors for one that is not."""
    try:
        os.rename(aside, folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder)) from error


def point(link: Path, target: str) -> None:
    """Makes a symbolic link lead to a target beside it, in place of an older link.

    Raises:
        OSError: it could not be made; the old one is still there.
    """
    if link.is_symlink() and os.readlink(link) == target:
        return
    aside = aside_of(link)
    try:
        os.symlink(target, aside)
        os.replace(aside, link)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync(link.parent)


def aside_of(path: Path) -> Path:
    """A temporary name beside a path; no other process on any machine uses the same one.

    It does not contain the path's own name, by which others might look for files: TensorBoard reads whatever
    has 'tfevents' in its name.
    """
    return path.with_name(f".{os.urandom(8).hex()}{ASIDE}")


def clear_aside(folder: Path) -> None:
    """Removes temporary files that a killed process has left in a folder that belongs to this process."""
    for path in folder.glob(f".*{ASIDE}"):
        remove(path)


def make_folder(folder: Path) -> list[Path]:
    """Makes a folder with those above it, and brings their names to the disk.

    Returns:
        The folders that did not exist before, the outermost first.

    Raises:
        FileNotFoundError: another process has removed one of them in the meantime.
        OSError: it cannot be made; what was made for it is removed again.
    """
    missing = [level for level in (folder, *folder.parents) if not level.exists()]
    made: list[Path] = []
    try:
        for level in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another process has made it at the same moment
                level.mkdir()
                made.append(level)
                sync(level.parent)
            _check_folder(level)
        _check_folder(folder)
    except BaseException:
        with contextlib.suppress(OSError):
            for level in reversed(made):
                level.rmdir()
        raise
    return made


def _check_folder(path: Path) -> None:
    """Raises an OSError if a path is no folder."""
    if not path.is_dir():
        number = errno.ENOTDIR if os.path.lexists(path) else errno.ENOENT
        raise OSError(number, os.strerror(number), str(path))


def remove(path: Path) -> None:
    """Removes whatever is there, if anything; a link, not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def copy(source: Path, target: Path) -> None:
    """Copies a file with its times; the disk may get it later."""
    with source.open("rb") as file:
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            while content := file.read(2**20):
                _write_all(handle, content)
        finally:
            os.close(handle)
    shutil.copystat(source, target)


def sync(folder: Path) -> None:
    """Brings the names in a folder, or the content of a file, to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(folder: Path) -> None:
    """Brings a folder with all that is in it to the disk."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            sync(path)


def _write(path: Path, content: bytes) -> None:
    """Writes a new file and brings it to the disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        _write_all(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_all(handle: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(handle, left) :]
