"""Files that survive a crash and a power failure: written aside, synced, then put in place in one step.

After a kill at any moment a name holds what it held before or the new content, never a part of it; after a
power failure too, since contents are on the disk before the name that shows them.

Each such operation is a generator (`Durable`) that yields the paths which must be on the disk before it goes
on. `alone` runs one; `together` runs many side by side, so that one sync serves all of them.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path

from sweepwise.system.disk import sync, sync_each, sync_whole

ASIDE = ".tmp"  # the ending of temporary names

Durable = Generator[Iterable[Path], None, None]


def alone(operation: Durable) -> None:
    """Runs a durable operation; raises whatever it raises."""
    together([operation])


def together(operations: Iterable[Durable]) -> None:
    """Runs durable operations side by side, with one sync for each stage of all of them.

    An error of one, or of syncing its paths, ends that one; the others are brought to their end.

    Raises:
        Exception: the first error, when all have ended.
    """
    going, errors = list(operations), list[Exception]()
    try:
        waiting = [(one, _advanced(one, errors)) for one in going]
        while going := [one for one, paths in waiting if paths is not None]:
            waiting = [(one, paths) for one, paths in waiting if paths is not None]
            if not sync_whole(path for _, paths in waiting for path in paths or ()):
                waiting = [(one, _synced(one, paths, errors)) for one, paths in waiting]
            waiting = [(one, _advanced(one, errors)) for one, paths in waiting if paths is not None]
    except BaseException:
        for one in going:
            one.close()
        raise
    if errors:
        raise errors[0]


def _advanced(
    operation: Durable, errors: list[Exception], error: Exception | None = None
) -> list[Path] | None:
    """What an operation waits for next; None: it has ended, with or without an error."""
    try:
        return [*(operation.throw(error) if error else next(operation))]
    except StopIteration:
        return None
    except Exception as raised:
        errors.append(raised)
        return None


def _synced(operation: Durable, paths: list[Path] | None, errors: list[Exception]) -> list[Path] | None:
    """Syncs what an operation waits for; an error is raised in it, and then it may wait for other paths."""
    while paths is not None:
        try:
            sync_each(paths)
            return paths
        except OSError as error:
            paths = _advanced(operation, errors, error)
    return None


def replacing(path: Path, content: bytes, *, named: bool = True) -> Durable:
    """Replaces a file.

    Args:
        path: of the file.
        content: the new one.
        named: whether its name must be on the disk too; else a power failure may bring the old content back.

    Raises:
        OSError: it could not be written; the old file is still there, and nothing beside it.
    """
    aside = aside_of(path)
    try:
        write_new(aside, content)
        yield [aside]
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if named:
        yield [path.parent]


def write_atomic(path: Path, content: bytes) -> None:
    """As `replacing`, alone."""
    alone(replacing(path, content))


def put(path: Path, content: bytes) -> None:
    """Replaces a file in one step for whoever reads it; the disk may get it later, or in part.

    Raises:
        OSError: it could not be written; the old file is still there, and nothing beside it.
    """
    aside = aside_of(path)
    try:
        write_new(aside, content)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def making(folder: Path, files: Mapping[str, bytes], shared: Mapping[str, Path] | None = None) -> Durable:
    """Makes a folder that holds these files, all of them from the moment it is there.

    It first yields the folder in which they are until then, and them.

    Args:
        folder: must not exist; its parent must.
        files: content by name.
        shared: by name, a file that has this content already: it gets a second name, if it can.

    Raises:
        FileExistsError: there is already one that holds something.
        OSError: it could not be written; nothing is left of it.
    """
    aside = aside_of(folder)
    try:
        aside.mkdir()
        for name, content in files.items():
            if not (shared and name in shared and linked(shared[name], aside / name)):
                write_new(aside / name, content)
        written = [aside, *(aside / name for name in files)]
        del files  # which may be large, while others are written
        yield written
        _take_place(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    yield [folder.parent]


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """As `making`, alone."""
    alone(making(folder, files))


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Makes a folder that appears in one step, with all that was written into it inside the `with`.

    The caller brings its files to the disk (`disk.sync_all`).

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


def point(link: Path, target: str) -> bool:
    """Makes a symbolic link lead to a target beside it, in place of an older link; the disk may get it later.

    Returns:
        Whether it did not do so before.

    Raises:
        OSError: it could not be made; the old one is still there.
    """
    if link.is_symlink() and os.readlink(link) == target:
        return False
    aside = aside_of(link)
    try:
        os.symlink(target, aside)
        os.replace(aside, link)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return True


def linked(path: Path, to: Path) -> bool:
    """Gives a file a second name; returns whether the file system can do that.

    Raises:
        FileNotFoundError: the file or the folder of its new name is not there.
    """
    try:
        os.link(path, to)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def put_link(source: Path, path: Path) -> None:
    """Puts a second name of a file in place of whatever has that name; the disk may get it later.

    Raises:
        OSError: there is no such file, or the file system cannot do that; what was there is still there.
    """
    aside = aside_of(path)
    os.link(source, aside)
    try:
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)  # also where both are names of one file, of which rename leaves both


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


def make_folder(folder: Path, *, durable: bool = True) -> list[Path]:
    """Makes a folder with those above it.

    Args:
        folder: the folder.
        durable: whether to bring their names to the disk; else the disk may get them later.

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
                if durable:
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


def write_new(path: Path, content: bytes) -> None:
    """Writes a new file; the disk may get it later."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        _write_all(handle, content)
    finally:
        os.close(handle)


def _write_all(handle: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(handle, left) :]
