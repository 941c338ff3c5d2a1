"""Bringing to the disk what was written: path by path, or all that a file system has to write at once."""

import ctypes
import functools
import os
from collections.abc import Iterable
from pathlib import Path

# To sync more paths than these one by one takes longer than to sync their file system (ext4: from 2).
MANY = 4
# File systems whose `syncfs` waits until all is on the disk, by the number that statfs gives. Those over a
# network or in user space may do nothing, and are synced path by path.
SYNCED_AS_A_WHOLE = {
    0xEF53: "ext2, ext3, ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0xF2F52010: "f2fs",
    0x2FC12FC1: "zfs",
    0x01021994: "tmpfs",
    0x794C7630: "overlayfs, which asks the one below",
}


def sync(path: Path) -> None:
    """Brings the names in a folder, or the content of a file, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_each(paths: Iterable[Path]) -> None:
    """Brings each of some paths to the disk."""
    for path in paths:
        sync(path)


def sync_all(folder: Path) -> None:
    """Brings a folder with all that is in it to the disk."""
    sync_each(path for path in (folder, *folder.rglob("*")) if not path.is_symlink())


def sync_whole(paths: Iterable[Path]) -> bool:
    """Brings paths to the disk with all else on their file systems, if that is cheaper than one by one.

    Returns:
        Whether all of them are there; if not, perhaps because one of them is missing, each has to be synced.
    """
    paths, handles = list(paths), list[int]()
    if len(paths) <= MANY:
        return False
    try:
        by_device = {os.stat(path).st_dev: path for path in paths}
        try:
            handles += [os.open(path, os.O_RDONLY) for path in by_device.values()]
            return all(_kind(handle) in SYNCED_AS_A_WHOLE for handle in handles) and all(map(syncfs, handles))
        finally:
            for handle in handles:
                os.close(handle)
    except OSError:
        return False


def syncfs(handle: int) -> bool:
    """Brings to the disk whatever was written to the file system of an open file; returns whether it could.

    It could not if any file there could not be written, of whomever it is.
    """
    libc = _libc()
    return libc is not None and libc.syncfs(handle) == 0


def _kind(handle: int) -> int:
    """The number of the kind of an open file's file system; 0 if it is unknown."""
    libc, about = _libc(), ctypes.create_string_buffer(512)
    if libc is None or libc.fstatfs(handle, about):
        return 0
    return ctypes.c_ulong.from_buffer(about).value & 0xFFFFFFFF  # `f_type`, its first field


@functools.cache
def _libc() -> ctypes.CDLL | None:
    """The C library, if it has both calls, as on Linux."""
    libc = ctypes.CDLL(None)
    return libc if os.uname().sysname == "Linux" and hasattr(libc, "syncfs") else None
