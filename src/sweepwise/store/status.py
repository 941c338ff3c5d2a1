"""How a run stands: its status, and whether it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweepwise.errors import DONE
from sweepwise.store.claim import is_held
from sweepwise.store.record import read
from sweepwise.store.shape import ENDED as ENDED
from sweepwise.store.shape import PRUNED as PRUNED

UNPAUSED = "the same command without trainer.pause_after, or with a later epoch"
# The exit code of a process that leaves a run with such a status, as it was asked to.
EXIT_CODES = {**ENDED, PRUNED: DONE}


class Ended(RuntimeError):
    """A run has ended before; there is nothing left to train.

    Attributes:
        folder: the run's.
        exit_code: that says how it ended.
    """

    def __init__(self, folder: Path, exit_code: int = 0) -> None:
        super().__init__(f"{folder} has ended before")
        self.folder = folder
        self.exit_code = exit_code


def ended(known: Mapping[str, Any]) -> bool:
    """Whether a run has ended, by its record."""
    return known.get("status") in ENDED


def settled(known: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether nothing is left to train of a run as it is asked for.

    Args:
        known: its record.
        config: of the request. A run that is paused has come far enough for one that pauses no later.
    """
    if known.get("status") != PRUNED:
        return ended(known)
    pause = config["trainer"].get("pause_after")
    return isinstance(pause, int) and 1 <= pause <= known["stopped"]["epoch"] + 1


def is_fused(known: Mapping[str, Any]) -> bool:
    """Whether a run was computed as a fused group is, in which sums are rounded in another way."""
    return bool(known.get("environment", {}).get("fused"))


def current_status(folder: Path, known: Mapping[str, Any] | None = None) -> str:
    """How a run stands now: the status in its record, where 'running' needs a process that lives.

    Args:
        folder: of the run.
        known: its record, if it was read a moment ago.

    Returns:
        'running', 'finished', ...; 'interrupted' if the record says 'running' but nobody holds the folder; ''
        if there was no such run. Where the lock cannot be read the record is believed.

    Raises:
        DamagedRecord: the record is not whole.
    """
    while True:
        known = read(folder) if known is None else known
        status = str(known.get("status", ""))
        if status not in ("", "running"):
            return status
        try:
            if is_held(folder):
                return "running"
        except OSError:
            return status
        now = read(folder)
        if now == known:  # else it was changed while we looked
            return "interrupted" if status else ""
        known = now
