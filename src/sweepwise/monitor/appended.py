"""A file to which a run appends while it trains; if that fails, the training continues."""

import errno
import os
import shutil
import sys
import time
from pathlib import Path

from sweepwise.store import takeover

FLUSH_SECONDS = 2.0
MIN_FREE = 2**17  # bytes of the disk that stay free for record.json
MAX_PENDING = 2**26  # bytes that wait in memory while the disk is full; any more are lost


class AppendedFile:
    """Gathers records in memory and appends them to the file.

    It appends at a `flush`, and at the first `add` that comes `FLUSH_SECONDS` or more after the last append.
    The file is open only then, so the limit of open files does not limit how many runs are trained together.
    An append is complete or undone: one that fails (full disk) is tried again, with what was added since.
    Checkpoints and the end of a run bring it to the disk.

    Args:
        path: the file's path; it is created if missing.
        size: how many bytes of an existing file stay; the rest is cut off. None: all.
        end: the byte that ends every record: if an existing file is shorter than `size`, its incomplete last
            record is cut off too.

    Attributes:
        path: the file's path.
        size: bytes in the file.
        lost: for each period in which records were lost, the first and the last step.
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
        self._pending_bytes = 0
        self._overflowing = False
        self._failure = ""
        self._appended = time.monotonic()

    def add(self, step: int, content: bytes) -> None:
        """Adds a record of a step."""
        before, self._overflowing = self._overflowing, self._full(content)
        if self._overflowing:
            first = self.lost.pop()[0] if before else step
            self.lost.append((min(first, step), max(first, step)))
        else:
            self._pending.append((step, content))
            self._pending_bytes += len(content)
        if time.monotonic() - self._appended >= FLUSH_SECONDS:
            self.flush()

    def _full(self, content: bytes) -> bool:
        return bool(self._failure) and self._pending_bytes + len(content) > MAX_PENDING

    def flush(self) -> bool:
        """Appends all pending records; returns whether that succeeded.

        Raises:
            TakenOver: it failed because another process has taken the run over.
        """
        self._appended = time.monotonic()
        try:
            self._append(len(self._pending))
        except OSError as error:
            takeover.refuse_taken(self.path)
            if not self._failure:
                print(
                    f"warning: {self.path.name} cannot be written ({error.strerror}); the training continues",
                    file=sys.stderr,
                )
            self._failure = str(error.strerror)
            return False
        self._failure = ""
        return True

    def close(self) -> None:
        """Appends as many pending records as the disk has room for; the rest is lost."""
        failed = self._failure
        try:
            succeeded = self.flush()
        except takeover.TakenOver:  # another process writes it now, and this one ends with this error anyway
            return
        if not succeeded:
            failed = self._failure
            self._append_what_fits()
            if self._pending:
                steps = [step for step, _ in self._pending]
                self.lost.append((min(steps), max(steps)))
        for first, last in _merged(self.lost):
            print(f"warning: {self.path.name} lacks steps {first} to {last} ({failed})", file=sys.stderr)

    def _append_what_fits(self) -> None:
        """Appends pending records in order until no more fit; `MIN_FREE` bytes of the disk stay free."""
        records = len(self._pending) // 2
        while records and self._pending:
            try:
                size = sum(len(content) for _, content in self._pending[:records])
                if shutil.disk_usage(self.path.parent).free < size + MIN_FREE:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._append(records)
            except OSError:
                records //= 2

    def _append(self, records: int) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            if os.fstat(handle).st_size > self.size:  # a failed append that could not be undone
                os.ftruncate(handle, self.size)
            rest = content = b"".join(content for _, content in self._pending[:records])
            while rest:
                rest = rest[os.write(handle, rest) :]
        except BaseException:
            os.ftruncate(handle, self.size)
            raise
        finally:
            os.close(handle)
        self.size += len(content)
        self._pending_bytes -= len(content)
        del self._pending[:records]


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same steps as sorted ranges that neither overlap nor touch."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return merged
