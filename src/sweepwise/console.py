"""What is printed while a run trains: a reader that has gone, or a full disk behind it, must not end it."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

GONE = (errno.EPIPE, errno.EIO, errno.ESHUTDOWN)


class Lasting:
    """A text stream whose writes never fail: what cannot be written is dropped.

    Args:
        stream: of this process, over a file descriptor.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes as far as that is possible; returns the length of the text."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._spare(error)
        return len(text)

    def flush(self) -> None:
        """Writes out what is held back, as far as that is possible."""
        try:
            self._stream.flush()
        except OSError as error:
            self._spare(error)

    def _spare(self, error: OSError) -> None:
        """Of a reader that has gone, nothing is held back, else it would fail once more at the end."""
        if error.errno in GONE:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def lasting() -> Iterator[None]:
    """While entered, standard output and errors are `Lasting`."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and cast(TextIO, Lasting(stream)) for stream in before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream:
                stream.flush()
        sys.stdout, sys.stderr = before
