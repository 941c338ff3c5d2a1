"""A folder held open by its descriptor: files are written into that folder even if it is renamed or replaced.

Paths below `FolderHandle.path` start at the open descriptor (/proc/self/fd/N/...), so every call that takes a
path can be used, and none can reach another folder that has been put in the place of this one.
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
        name: the path under which it will be found later, if that is another.

    Attributes:
        path: leads to the folder itself until the handle is closed. Without /proc it is the plain path.
        name: the path at which the folder lies.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, folder: Path, name: Path | None = None) -> None:
        self.name = name or folder
        self._handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self.path = Path(_DESCRIPTORS, str(self._handle))
        if not self._is(self.path):
            self.path = self.name
        _handles[self.path] = self

    @property
    def by_descriptor(self) -> bool:
        """Whether `path` follows the folder itself, and not only its name."""
        return self.path != self.name

    def in_place(self) -> bool:
        """Whether the folder is still at its name, neither moved nor replaced."""
        return self._handle < 0 or self._is(self.name)

    def close(self) -> None:
        """Closes the descriptor; nothing may be written by `path` any more."""
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            os.close(handle)

    def _is(self, path: Path) -> bool:
        try:
            return os.path.samestat(os.fstat(self._handle), path.stat())
        except OSError:
            return False


# By path. A closed one stays, so that `readable` still knows its name, until its number is used again.
_handles: dict[Path, FolderHandle] = {}


def above(path: Path) -> FolderHandle | None:
    """The open folder that a path begins with; None if there is none."""
    return next((_handles[level] for level in (path, *path.parents) if level in _handles), None)


def readable(text: object) -> str:
    """A path or a message with folders by their names, where it has their descriptors (/proc/self/fd/N)."""
    return re.sub(rf"{_DESCRIPTORS}/\d+", _name, str(text))


def _name(match: re.Match[str]) -> str:
    handle = _handles.get(Path(match[0]))
    return str(handle.name) if handle else match[0]
