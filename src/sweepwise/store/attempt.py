"""Which start of which Slurm job a process belongs to, and what the locks of runs say of such."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

LET_GO = ", has let go"
_SIGNED = re.compile(rf", attempt (\d+) of job (\S+?)({LET_GO})?$")


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
        """That which this process belongs to; None outside of Slurm."""
        job, number = environment.get("SLURM_JOB_ID", ""), environment.get("SLURM_RESTART_COUNT", "")
        return cls(job, int(number) if number.isdecimal() else 0) if job.isdecimal() else None

    def __str__(self) -> str:
        return f"attempt {self.number} of job {self.job}"

    def newer(self, told: str) -> str:
        """Which attempt of this job has come after this one, as the text of a lock tells; '' if none."""
        others = [other for other, _ in attempts(told) if other.job == self.job]
        last = max(others, key=lambda other: other.number, default=self)
        return str(last) if last.number > self.number else ""

    def supersedes(self, told: str, *, held: bool) -> bool:
        """Whether an earlier attempt may still write.

        Args:
            told: the text of the run's lock.
            held: whether a process holds the lock. One that does not may have lost it with its network.
        """
        found = attempts(told.partition("\n")[0] if held else told)
        return any(self._follows(other) and (held or not done) for other, done in found)

    def _follows(self, other: Attempt) -> bool:
        return other.job == self.job and other.number < self.number


def attempts(told: str) -> list[tuple[Attempt, bool]]:
    """The attempts that a lock names, and whether each has let go."""
    found = (_SIGNED.search(line) for line in told.splitlines())
    return [(Attempt(one[2], int(one[1])), bool(one[3])) for one in found if one]


def signed(own: Attempt | None, told: str) -> str:
    """The new text of a lock: who holds it now, and below that the last attempt of every other job.

    Args:
        own: this process's.
        told: the text before.
    """
    mine = f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%dT%H:%M:%S%z')}"
    others = [
        f"before, {attempt}{LET_GO * done}"
        for attempt, done in attempts(told)
        if not own or attempt.job != own.job
    ]
    return "\n".join([f"{mine}, {own}" if own else mine, *others, ""])


def let_go(told: str) -> str:
    """The text of a lock whose holder writes nothing more."""
    first, _, others = told.partition("\n")
    return f"{first}{LET_GO}\n{others}"
