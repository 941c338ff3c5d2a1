"""What the pool reports to and asks of its caller, and the observer that does nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sweepwise.store.request import Request
from sweepwise.sweep.outcome import Outcome


class Observer(Protocol):
    """Follows a sweep on this machine."""

    def other_trainer(self, request: Request) -> str:
        """Says who else trains a run that is about to start, and so is left to them; '' if nobody does."""
        ...

    def say(self, key: str, text: str) -> None:
        """Takes news about the whole sweep, under a keyword.

        Args:
            key: 'plan': which runs are trained together, before any is started; 'note': what some of them
                note of their settings, before too; 'again': why a group came to an end, and how many of its
                runs go on in smaller groups.
            text: the news.
        """
        ...

    def started(self, requests: Sequence[Request]) -> None:
        """Takes the runs that a process is about to train; again where a group is made smaller."""
        ...

    def ended(self, outcome: Outcome) -> None:
        """Takes the outcome of a run that has ended."""
        ...

    def tick(self) -> None:
        """Called at least twice a second while runs are trained."""
        ...


class Unobserved:
    """Reports nothing and leaves no run to others; a subclass overrides what it wants to see."""

    def other_trainer(self, request: Request) -> str:
        """Nobody."""
        return ""

    def say(self, key: str, text: str) -> None:
        """Nothing."""

    def started(self, requests: Sequence[Request]) -> None:
        """Nothing."""

    def ended(self, outcome: Outcome) -> None:
        """Nothing."""

    def tick(self) -> None:
        """Nothing."""


UNOBSERVED = Unobserved()
