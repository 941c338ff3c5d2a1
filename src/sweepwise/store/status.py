"""How a run stands: its status, and whether it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweepwise.errors import DONE, FAILED
from sweepwise.store.claim import is_held
from sweepwise.store.record import read

# Statuses with nothing left to do, and the exit code of each.
ENDED = {"finished": DONE, "stopped early": DONE, "diverged": FAILED}


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


def is_fused(known: Mapping[str, Any]) -> bool:
    """Whether a run was trained in a fused group, where sums are rounded in another way."""
    return bool(known.get("environment", {}).get("fused"))


def current_status(folder: Path) -> str:
    """How a run stands now: the status in its record, where 'running' needs a process that lives.

    Returns:
        'running', 'finished', ...; 'interrupted' if the record says 'running' but nobody holds the folder; ''
        if there was no such run. Where the lock cannot be read the record is believed.

    Raises:
        DamagedRecord: the record is no JSON object.
    """
    while True:
        known = read(folder)
        status = str(known.get("status", ""))
        if status not in ("", "running"):
            return status
        try:
            if is_held(folder):
                return "running"
        except OSError:
            return status
        if read(folder) == known:  # else it was changed while we looked
            return "interrupted" if status else ""
