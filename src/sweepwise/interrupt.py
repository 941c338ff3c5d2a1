"""Ctrl-C and SIGTERM: the first one lets the running step end, a second Ctrl-C stops at once."""

import signal
from types import FrameType, TracebackType


class Interrupts:
    """While entered, notes the first SIGINT or SIGTERM instead of dying of it.

    Attributes:
        signal: the number of the signal that came, or 0.
    """

    signal = 0

    def __enter__(self) -> "Interrupts":
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Whether a signal has come."""
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """What a shell expects of a program that a signal has ended: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number
