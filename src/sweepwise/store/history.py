"""The metrics of a run by epoch, as its folder holds them."""

from pathlib import Path
from typing import Any

from sweepwise.errors import UsageError
from sweepwise.store import shape
from sweepwise.store.folders import LINES


def history(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a run after each epoch, by tag, with 'epoch' and 'step'.

    Where there is a validation part, these are the epochs that were validated.

    Args:
        folder: of a run that has begun.

    Raises:
        UsageError: it is not the folder of a run, or no epoch has ended.
        Damaged: a line of metrics.jsonl is not whole.
    """
    path = folder / LINES
    try:
        complete = path.read_bytes().split(b"\n")[:-1]  # the last line may be half-written
    except OSError as error:
        raise UsageError([f"{folder}: is not the folder of a run ({error})"]) from error
    epochs: list[dict[str, Any]] = []
    for number, line in enumerate(complete, 1):
        try:
            values = shape.parsed(line, shape.MAPPING)
            if "train/loss" in values:
                epochs.append(shape.parsed(line, shape.epoch))
        except ValueError as error:
            way_out = "restore it from a copy, or use fresh=true to train again"
            raise shape.Damaged(shape.message(path, f"line {number}: {error}", way_out)) from error
    if not epochs:
        raise UsageError([f"{folder}: no epoch of this run has ended yet"])
    return [line for line in epochs if "val/loss" in line] or epochs
