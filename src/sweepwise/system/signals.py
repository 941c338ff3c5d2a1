"""Signals that ask a program to end: at once before the training, at the end of the running step during it.

SIGINT (Ctrl-C), SIGTERM, SIGHUP (the terminal was closed), SIGUSR1 and SIGUSR2 (a cluster's warnings) are
treated alike.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any, Self

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
PLAIN_HANDLERS = (signal.SIG_DFL, signal.default_int_handler)
SIGNALLED = 128  # the exit code of a program that a signal has ended is this plus the signal's number

Handler = Callable[[int, FrameType | None], None]


class Stopped(KeyboardInterrupt):
    """A signal has ended the work.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal = number


def exit_code(number: int) -> int:
    """What a shell expects of a program that a signal has ended: 130 for Ctrl-C, 143 for the others."""
    return SIGNALLED + (signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)


@contextmanager
def handling_signals(answer: Handler | None = None, *, foreign: bool = True) -> Iterator[None]:
    """While entered, each stop signal is handled; one that is ignored (by nohup, or by now) stays ignored.

    Outside of the main thread, which alone can handle signals, nothing changes.

    Args:
        answer: a handler; without one, `Stopped` is raised.
        foreign: whether also those are handled that have a handler of someone else's.
    """
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS if main}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN and (foreign or handler in PLAIN_HANDLERS):
                signal.signal(number, answer or _stop)
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler or signal.SIG_DFL)
        if answer is None:
            _raised.clear()


_raised: list[int] = []


def _stop(number: int, frame: FrameType | None) -> None:
    _raised.append(number)
    raise Stopped(number)


def swallowed_signal() -> Stopped | None:
    """The `Stopped` that was raised although another exception arrived; None if there was none.

    Compiled code that is being imported may turn `Stopped` into another exception (ImportError:
    initialization failed), or drop it.
    """
    return Stopped(_raised[-1]) if _raised else None


class StopFlag(AbstractContextManager["StopFlag"]):
    """While entered, notes the first signal and lets the work go on; a second Ctrl-C ends it at once.

    Args:
        echo_seconds: time after a signal in which another one does not count as a second Ctrl-C: torchrun
            sends its processes again what the terminal has sent them already.
        foreign: see `handling_signals`.

    Attributes:
        signal: the number of the signal that came, or 0.
    """

    signal = 0

    def __init__(self, echo_seconds: float = 0.0, *, foreign: bool = True) -> None:
        self._echo_seconds = echo_seconds
        self._foreign = foreign
        self._since = -math.inf

    def __enter__(self) -> Self:
        self.signal = _raised[-1] if _raised else 0
        self._handling = handling_signals(self._note, foreign=self._foreign)
        self._handling.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._handling.__exit__(*raised)

    def __call__(self) -> bool:
        """Whether a signal has come."""
        return self.signal != 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT and time.monotonic() - self._since >= self._echo_seconds:
            raise Stopped(number)
        if not self.signal:
            self.signal, self._since = number, time.monotonic()


@contextmanager
def deferred() -> Iterator[None]:
    """While entered, a signal waits until the end, and is raised there as `Stopped`.

    For work that must not be interrupted: torch's C code goes on without numpy if its import is interrupted.
    """
    with StopFlag() as flag:
        yield
    if flag():
        raise Stopped(flag.signal)


@contextmanager
def blocked() -> Iterator[None]:
    """While entered, a signal waits in the kernel until the end, also in a process that is forked meanwhile.

    So none comes between the fork and the moment when the parent knows the process, or the process its
    handlers; a forked process unblocks the signals itself.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore(numbers: Iterable[signal.Signals]) -> None:
    """Ignores these signals from now on, also while Python ends.

    To block them would not be enough: the kernel gives a signal to any thread that does not block it, and
    numeric libraries start some. A handler would not be either: Python removes its handlers at its end.
    """
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def unblock() -> None:
    """Lets signals come in a process that was forked while they were `blocked`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
