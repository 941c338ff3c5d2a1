"""Attempts: the starts of a Slurm job, and the text of a lock file that names them."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

RELEASED = ", has let go"
_SIGNED = re.compile(rf", attempt (\d+) of job (\S+?)({RELEASED})?$")


@dataclass(frozen=True)
class Attempt:
    """One start of a Slurm job; each requeue makes another.

    Attributes:
        job: its id; each task of an array has its own.
        number: how often the job had been started before.
    """

    job: str
    number: int

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> Attempt | None:
        """The attempt that this process belongs to; None outside of Slurm."""
        job, number = environment.get("SLURM_JOB_ID", ""), environment.get("SLURM_RESTART_COUNT", "")
        return cls(job, int(number) if number.isdecimal() else 0) if job.isdecimal() else None

    def __str__(self) -> str:
        return f"attempt {self.number} of job {self.job}"

    def newer(self, text: str) -> str:
        """The latest attempt of this job that the text of a lock names, if it is newer than this; else ''."""
        others = [other for other, _ in attempts(text) if other.job == self.job]
        last = max(others, key=lambda other: other.number, default=self)
        return str(last) if last.number > self.number else ""

    def supersedes(self, text: str, *, held: bool) -> bool:
        """Whether an earlier attempt of this job may still write to the run.

        Args:
            text: of the run's lock.
            held: whether a process holds the lock. A process that does not may have lost it with its network.
        """
        named = attempts(text.partition("\n")[0] if held else text)
        return any(self._follows(other) and (held or not done) for other, done in named)

    def _follows(self, other: Attempt) -> bool:
        return other.job == self.job and other.number < self.number


def attempts(text: str) -> list[tuple[Attempt, bool]]:
    """The attempts that the text of a lock names, and whether each has released it."""
    matches = (_SIGNED.search(line) for line in text.splitlines())
    return [(Attempt(match[2], int(match[1])), bool(match[3])) for match in matches if match]


def signed(own: Attempt | None, text: str) -> str:
    """The new text of a lock: who holds it now, and below that the last attempt of every other job.

    Args:
        own: the attempt of this process.
        text: the text before.
    """
    mine = f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%dT%H:%M:%S%z')}"
    others = [
        f"before, {attempt}{RELEASED * done}"
        for attempt, done in attempts(text)
        if not own or attempt.job != own.job
    ]
    return "\n".join([f"{mine}, {own}" if own else mine, *others, ""])


def released(text: str) -> str:
    """The text of a lock whose holder has released it and writes nothing more."""
    first, _, others = text.partition("\n")
    return f"{first}{RELEASED}\n{others}"
