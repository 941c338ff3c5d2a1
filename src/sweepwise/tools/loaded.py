"""The table that a script's arguments name: folders, and which of their runs, by which metric."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweepwise.errors import UsageError
from sweepwise.tools import scripting

if TYPE_CHECKING:
    from sweepwise.results.table import Table

OWN = ("metric", "by", "replicates")


def split(arguments: Sequence[str], **defaults: str) -> tuple[list[str], dict[str, str], list[str]]:
    """Takes the arguments of a script apart.

    Args:
        arguments: of the command line: folders, settings of the script, and KEY=VALUE of the runs that count.
        defaults: the script's own keys, beside those in `OWN`, with their default values.

    Returns:
        The folders, the script's settings, and the other KEY=VALUE.

    Raises:
        UsageError: no folder is given, or as `scripting.settings`.
    """
    homes = [argument for argument in arguments if not re.match(r"[\w.]+=", argument)]
    rest = [argument for argument in arguments if argument not in homes]
    own, others = scripting.settings(rest, **dict.fromkeys(OWN, ""), **defaults)
    if not homes:
        raise UsageError(["FOLDER: must be given, the folder of an experiment, such as outputs/main"])
    return homes, own, others


def table(homes: Sequence[str], own: dict[str, str], others: Sequence[str]) -> Table:
    """Loads what `split` found.

    Raises:
        UsageError: see `results.loading.load`.
    """
    from sweepwise.results import loading

    return loading.load(
        *homes,
        metric=own["metric"] or None,
        by=scripting.words("by", own["by"]) if own["by"] else None,
        replicates=scripting.words("replicates", own["replicates"]) if own["replicates"] else None,
        where={key: value for key, _, value in (other.partition("=") for other in others)},
    )
