"""A file that grows while a run trains, and whose failures do not end the training."""

import errno
import os
import shutil
import sys
import time
from pathlib import Path

from sweepwise.store import takeover
from sweepwise.system import atomic

FLUSH_SECONDS = 2.0
LEFT_FREE = 2**17  # bytes, for the record of how the run ended
MOST_PENDING = 2**26  # bytes kept for a disk that is full; what comes after them is lost


class AppendedFile:
    """Gathers what is written and appends it to the file.

    That happens at a `flush`, and at the first write that comes `FLUSH_SECONDS` or more after the last one.
    The file is open only then, so the number of runs trained together is not limited by that of open files.
    An append is whole or undone: one that fails (full disk) is tried again with what has come meanwhile.

    Args:
        path: of the file, made if missing.
        size: bytes that stay of what is there; more are cut off. None: all.
        end: one byte that ends every record: of a file that has lost bytes a torn last record is cut off too.

    Attributes:
        path: of the file.
        size: bytes in the file.
        lost: the first and the last step whose records were given up, of each such time.
    """

    def __init__(self, path: Path, size: int | None = None, end: bytes = b"") -> None:
        self.path = path
        with path.open("ab") as file:
            if size is not None and file.tell() > size:
                file.truncate(size)
        self.size = path.stat().st_size
        if size is not None and self.size < size:
            print(f"warning: {path.name} has lost its last {size - self.size:,} bytes", file=sys.stderr)
            if end:
                os.truncate(path, path.read_bytes().rfind(end) + 1)
                self.size = path.stat().st_size
        self.lost: list[tuple[int, int]] = []
        self._pending: list[tuple[int, bytes]] = []  # step and record
        self._held = 0  # bytes of them
        self._overflowing = False
        self._failure = ""
        self._named = False  # whether its name is known to be on the disk
        self._appended = time.monotonic()

    def add(self, step: int, content: bytes) -> None:
        """Writes something that belongs to a step."""
        before, self._overflowing = self._overflowing, self._full(content)
        if self._overflowing:
            first = self.lost.pop()[0] if before else step
            self.lost.append((min(first, step), max(first, step)))
        else:
            self._pending.append((step, content))
            self._held += len(content)
        if time.monotonic() - self._appended >= FLUSH_SECONDS:
            self.flush()

    def _full(self, content: bytes) -> bool:
        return bool(self._failure) and self._held + len(content) > MOST_PENDING

    def flush(self, *, sync: bool = False) -> bool:
        """Appends what is pending; returns whether that succeeded.

        Args:
            sync: whether to wait until it is on the disk.

        Raises:
            Fenced: it failed, as another process has taken the run over.
        """
        self._appended = time.monotonic()
        try:
            self._append(len(self._pending), sync)
        except OSError as error:
            takeover.refuse_taken(self.path)
            if not self._failure:
                print(
                    f"warning: {self.path.name} cannot be written ({error.strerror}); the training goes on",
                    file=sys.stderr,
                )
            self._failure = str(error.strerror)
            return False
        self._failure = ""
        return True

    def close(self) -> None:
        """Appends what is pending, as much of it as there is room for; the rest is lost."""
        failed = self._failure
        try:
            whole = self.flush(sync=True)
        except takeover.TakenOver:  # others write it now, and this process ends with that anyway
            return
        if not whole:
            failed = self._failure
            self._squeeze()
            if self._pending:
                steps = [step for step, _ in self._pending]
                self.lost.append((min(steps), max(steps)))
        for first, last in _merged(self.lost):
            print(f"warning: {self.path.name} lacks steps {first} to {last} ({failed})", file=sys.stderr)

    def _squeeze(self) -> None:
        """Appends the first of the pending records until no more finds room, of which some stays free."""
        records = len(self._pending) // 2
        while records and self._pending:
            try:
                size = sum(len(content) for _, content in self._pending[:records])
                if shutil.disk_usage(self.path.parent).free < size + LEFT_FREE:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._append(records, sync=True)
            except OSError:
                records //= 2

    def _append(self, records: int, sync: bool) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            if os.fstat(handle).st_size > self.size:  # what an append that failed could not take back
                os.ftruncate(handle, self.size)
            left = content = b"".join(content for _, content in self._pending[:records])
            while left:
                left = left[os.write(handle, left) :]
            if sync:
                os.fsync(handle)
        except BaseException:
            os.ftruncate(handle, self.size)
            raise
        finally:
            os.close(handle)
        self.size += len(content)
        self._held -= len(content)
        del self._pending[:records]
        if sync and not self._named:
            atomic.sync(self.path.parent)
            self._named = True


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same steps in order, each range once."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return merged
