"""Signals that ask a program to end: at once before the training, at the end of the running step during it.

SIGINT (Ctrl-C), SIGTERM, SIGHUP (the terminal has gone) and SIGUSR1, SIGUSR2 (a cluster's warnings) are alike.
"""

import signal
from types import FrameType, TracebackType

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Stopped(KeyboardInterrupt):
    """A signal has ended what was being done.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal = number


def exit_code(number: int) -> int:
    """What a shell expects of a program that a signal has ended: 130 for Ctrl-C, 143 for the others."""
    return 128 + (signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)


def heed() -> None:
    """From now on each of the signals raises `Stopped`; one that is ignored (nohup) stays ignored."""
    for number in ASKING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


class Interrupts:
    """While entered, notes the first signal instead of ending; a second Ctrl-C ends at once.

    Attributes:
        signal: the number of the signal that came, or 0.
    """

    signal = 0

    def __enter__(self) -> "Interrupts":
        self._before = {number: signal.getsignal(number) for number in ASKING}
        for number, handler in self._before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Whether a signal has come."""
        return self.signal != 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            raise Stopped(number)
        self.signal = self.signal or number
