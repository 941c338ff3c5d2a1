"""A folder held by its descriptor: what is written goes into that folder, whatever becomes of its name.

Paths below `Anchor.path` start at the open descriptor (/proc/self/fd/N/...), so every call that takes a path
can be used, and none can reach another folder that has been put in the place of this one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_DESCRIPTORS = "/proc/self/fd"


class FolderHandle:
    """An open folder.

    Args:
        folder: to open.
        name: under which it will be known, if that is another.

    Attributes:
        path: leads to the folder itself, until it is closed. Where there is no /proc it is the plain path.
        name: where it was put.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, folder: Path, name: Path | None = None) -> None:
        self.name = name or folder
        self._handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self.path = Path(_DESCRIPTORS, str(self._handle))
        if not self._is(self.path):
            self.path = self.name
        _anchors[self.path] = self

    @property
    def firm(self) -> bool:
        """Whether `path` holds to the folder and not to its name."""
        return self.path != self.name

    def in_place(self) -> bool:
        """Whether the folder is still where it was put."""
        return self._handle < 0 or self._is(self.name)

    def close(self) -> None:
        """Lets it go; nothing may be written by its `path` any more."""
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            os.close(handle)

    def _is(self, path: Path) -> bool:
        try:
            return os.path.samestat(os.fstat(self._handle), path.stat())
        except OSError:
            return False


_anchors: dict[
    Path, FolderHandle
] = {}  # by path; a closed one stays, for `named`, until its number is used again


def above(path: Path) -> FolderHandle | None:
    """The anchor that a path begins with."""
    return next((_anchors[level] for level in (path, *path.parents) if level in _anchors), None)


def readable(text: object) -> str:
    """A path or a message with the names of folders in the place of their descriptors."""
    return re.sub(rf"{_DESCRIPTORS}/\d+", _name, str(text))


def _name(found: re.Match[str]) -> str:
    anchor = _anchors.get(Path(found[0]))
    return str(anchor.name) if anchor else found[0]
