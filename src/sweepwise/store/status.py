"""What becomes of a run that is asked for again: taken as it is, gone on with, or asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweepwise import provenance, sources
from sweepwise.errors import DONE, FAILED, Failure
from sweepwise.store.claim import is_held
from sweepwise.store.record import read
from sweepwise.store.request import Request

# Statuses with nothing left to do, and the exit code of each.
ENDED = {"finished": DONE, "stopped early": DONE, "diverged": FAILED}


class Ended(RuntimeError):
    """A run has nothing left to do.

    Attributes:
        folder: the run's.
        exit_code: that says how it ended.
    """

    def __init__(self, folder: Path, exit_code: int = 0) -> None:
        super().__init__(f"{folder} has ended before")
        self.folder = folder
        self.exit_code = exit_code


class Changed(Failure):
    """A run was made by other code, and nothing was said of what to do about it."""


def ended(known: Mapping[str, Any]) -> bool:
    """Whether a run's record leaves nothing to do."""
    return known.get("status") in ENDED


def made_by(request: Request, environment: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of how a run came about, for `provenance.differences`."""
    code, inputs = sources.code(request.targets), sources.inputs(request.config)
    return {"code": code, "inputs": inputs, "environment": environment}


def refuse_changed(folder: Path, known: Mapping[str, Any], request: Request, changes: Sequence[str]) -> None:
    """Asks what to do with a run that was made by something else than what is here now.

    Raises:
        Changed: with all that differs, unless that was accepted.
    """
    if changes and not request.config["accept_changes"]:
        status = known["status"] if known["status"] != "running" else "killed"
        way = "takes it as it is" if known["status"] in ENDED else "goes on with it"
        raise Changed(
            f"{folder}: {status}, but made by something else: {'; '.join(changes)}. "
            f"fresh=true trains it anew, over what is there; accept_changes=true {way}"
        )


def refuse_made_otherwise(folder: Path, known: Mapping[str, Any], request: Request) -> None:
    """`refuse_changed` for a run that has ended: by code, inputs and versions, which are known without torch.

    Raises:
        Changed: see `refuse_changed`.
    """
    differs = provenance.differences(known, made_by(request, provenance.versions()))
    refuse_changed(folder, known, request, [*differs.code, *differs.inputs, *differs.versions])


def is_fused(known: Mapping[str, Any]) -> bool:
    """Whether a run takes its steps as one of a group does, whose sums are rounded otherwise."""
    return bool(known.get("environment", {}).get("fused"))


def standing(folder: Path) -> str:
    """How a run stands now: the status in its record, where 'running' needs a process that lives.

    Returns:
        'running', 'finished', ...; 'interrupted' if the record says 'running' but nobody holds the folder; ''
        if there was no such run. Where the lock cannot be read the record is believed.

    Raises:
        Damaged: the record is no JSON object.
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
        if read(folder) == known:  # else it has moved on while we looked
            return "interrupted" if status else ""
