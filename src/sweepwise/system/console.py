"""What is printed while a run trains: a reader that has gone, or a full disk behind it, must not end it."""

import errno
import os
import shlex
import sys
import textwrap
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

COLUMNS = 80


INDENT = 14  # of the texts behind their keys


GONE = (errno.EPIPE, errno.EIO, errno.ESHUTDOWN)
REMEMBERED = 100  # pieces of text


class Lasting:
    """A text stream whose writes never fail: what cannot be written is dropped.

    Args:
        stream: of this process, over a file descriptor.
        last: takes each piece of text.

    Attributes:
        lost: why something was dropped that somebody would have read; empty if nothing was.
    """

    def __init__(self, stream: TextIO, last: deque[str]) -> None:
        self._stream, self._last = stream, last
        self.lost = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes as far as that is possible; returns the length of the text."""
        self._last.append(text)
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
        """Drops what is held back, which would fail once more at the end; all, if the reader has gone."""
        descriptor = self._stream.fileno()
        before = os.dup(descriptor)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
        self._stream.flush()
        if error.errno not in GONE:
            os.dup2(before, descriptor)
            self.lost = error.strerror or str(error)
        os.close(before)


def occupy() -> None:
    """Lets the descriptors of standard input, output and errors be nobody else's, if they are closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free


def flush() -> None:
    """Writes out what is held back."""
    for stream in (sys.stdout, sys.stderr):
        if stream:
            stream.flush()


def lost() -> str:
    """Why the standard output is not all there where it should be, such as a full disk; empty if it is."""
    flush()
    return str(getattr(sys.stdout, "lost", ""))


def on_terminal() -> bool:
    """Whether a person reads what is printed; the standard output may also be closed."""
    return bool(sys.stdout) and sys.stdout.isatty()


@contextmanager
def lasting() -> Iterator[Callable[[], str]]:
    """While entered, standard output and errors are `Lasting`; gives what was printed last, to ask for."""
    before = sys.stdout, sys.stderr
    last: deque[str] = deque(maxlen=REMEMBERED)
    sys.stdout, sys.stderr = (stream and cast(TextIO, Lasting(stream, last)) for stream in before)
    try:
        yield lambda: "".join(last)
    finally:
        flush()
        sys.stdout, sys.stderr = before


def command_to_continue() -> str:
    """The command that goes on with what this one has left."""
    words = [word for word in sys.argv if word not in ("fresh=true", "accept_changes=true")]
    return shlex.join(["python", *words])


def wrapped(key: str, text: str, indent: int = INDENT) -> str:
    """A line that goes on below where a terminal ends, without breaking a word or a path."""
    lines = textwrap.wrap(text, COLUMNS - indent, break_long_words=False, break_on_hyphens=False) or [""]
    return f"{key:<{indent}}" + f"\n{'':<{indent}}".join(lines)


def print_line(key: str, text: str) -> None:
    """Prints a text with its key in front, as `wrapped` but on one line."""
    print(f"{key:<{INDENT}}{text}", flush=True)
