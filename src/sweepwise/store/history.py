"""The metrics of a run by epoch, as its folder holds them."""

import json
from pathlib import Path
from typing import Any

from sweepwise.errors import UsageError
from sweepwise.store.folders import LINES


def history(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a run after each epoch, by tag, with 'epoch' and 'step'.

    Args:
        folder: of a run that has begun.

    Raises:
        UsageError: it is not the folder of a run, or no epoch has ended.
    """
    try:
        complete = (folder / LINES).read_text().split("\n")[:-1]  # the last line may be half-written
        lines = [json.loads(line) for line in complete]
    except (OSError, ValueError) as error:
        raise UsageError([f"{folder}: is not the folder of a run ({error})"]) from error
    epochs = [line for line in lines if "val/loss" in line]
    if not epochs:
        raise UsageError([f"{folder}: this run has not validated any epoch yet"])
    return epochs
