"""Printing that never ends a training: a closed pipe or a full disk behind the output is tolerated."""

import errno
import os
import re
import shlex
import shutil
import sys
import textwrap
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

COLUMNS = 80
NARROWEST = 20  # columns of text beside its key
INDENT = 14  # columns before the text, where its key stands
GONE = (errno.EPIPE, errno.EIO, errno.ESHUTDOWN)
OVERRIDE = re.compile(r"""'[\w.]+=(?:[^']|'"'"')*'""")  # quoted for a shell
UNBROKEN = "\ue000"  # stands for a space at which no line may end
REMEMBERED = 100  # pieces of text that are kept


class TolerantStream:
    """A text stream whose writes never fail: text that cannot be written is dropped, or escaped.

    Args:
        stream: of this process, over a file descriptor.
        recent: each piece of text is appended to it.

    Attributes:
        lost: why text was dropped that somebody would have read; empty if none was.
    """

    def __init__(self, stream: TextIO, recent: deque[str]) -> None:
        self._stream, self._recent = stream, recent
        self.lost = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes the text if that is possible; returns its length."""
        self._recent.append(text)
        try:
            self._stream.write(self._printable(text))
        except OSError as error:
            self._drop(error)
        return len(text)

    def _printable(self, text: str) -> str:
        r"""The text, with \udce9 where it holds what the stream cannot encode, such as a byte of a name."""
        encoding, errors = self._stream.encoding or "utf-8", self._stream.errors or "strict"
        try:
            text.encode(encoding, errors)
        except UnicodeEncodeError:
            return text.encode(encoding, "backslashreplace").decode(encoding)
        return text

    def flush(self) -> None:
        """Writes out the buffered text if that is possible."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        """Drops buffered text, which would fail again at the end; later text too if the reader is gone."""
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


def reserve_standard_descriptors() -> None:
    """Opens /dev/null for each closed standard stream, so that no other file gets its descriptor."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free


def flush() -> None:
    """Writes out the buffered text of standard output and errors."""
    for stream in (sys.stdout, sys.stderr):
        if stream:
            stream.flush()


def lost_output() -> str:
    """Why part of the standard output was lost, such as a full disk; empty if none was."""
    flush()
    return str(getattr(sys.stdout, "lost", ""))


def on_terminal() -> bool:
    """Whether standard output is a terminal; it may also be closed."""
    return bool(sys.stdout) and sys.stdout.isatty()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return hasattr(_shell(), "kernel")


def at_a_prompt() -> bool:
    """Whether a person types commands into this process, one after the other: a notebook, IPython, Python."""
    return hasattr(sys, "ps1") or bool(sys.flags.interactive) or _shell() is not None


def _shell() -> Any:
    """IPython's, which a notebook's kernel has too; None where nothing has imported it."""
    asked = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    return asked()


@contextmanager
def tolerant_output() -> Iterator[Callable[[], str]]:
    """Makes standard output and errors a `TolerantStream`; yields a function that returns the latest text."""
    before = sys.stdout, sys.stderr
    recent: deque[str] = deque(maxlen=REMEMBERED)
    sys.stdout, sys.stderr = (stream and cast(TextIO, TolerantStream(stream, recent)) for stream in before)
    try:
        yield lambda: "".join(recent)
    finally:
        flush()
        sys.stdout, sys.stderr = before


def command_to_continue() -> str:
    """The command that continues what this one has left unfinished."""
    words = [word for word in sys.argv if word not in ("fresh=true", "accept_changes=true")]
    return shlex.join(["python", *words])


def wrapped(key: str, text: str, indent: int = INDENT) -> str:
    """A text with its key in front, in lines of 80 columns; no word, path or quoted override is broken.

    On a terminal that is narrower the lines are as long as it is wide.
    """
    columns = min(COLUMNS, shutil.get_terminal_size().columns) if on_terminal() else COLUMNS
    width = max(columns, indent + NARROWEST) - indent
    whole = OVERRIDE.sub(lambda found: found[0].replace(" ", UNBROKEN), text)
    lines = textwrap.wrap(whole, width, break_long_words=False, break_on_hyphens=False) or [""]
    return f"{key:<{indent}}" + f"\n{'':<{indent}}".join(lines).replace(UNBROKEN, " ")


def print_line(key: str, text: str, file: TextIO | None = None) -> None:
    """Prints a text with its key in front, as `wrapped` but on one line; to a file or standard output."""
    print(f"{key:<{INDENT}}{text}", flush=True, file=file)
