"""The curves of a table's runs as arrays, and which of them can be replayed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweepwise.results import run_folder
from sweepwise.results.table import Row, Table, chosen_by

Reader = Callable[[Path], Sequence[Mapping[str, Any]]]
NO_CURVE = "with a curve that is missing, damaged or not that of the record"


@dataclass(frozen=True)
class Curve:
    """What a run logged after its epochs.

    Attributes:
        row: the run.
        values: by tag (epochs,): NaN where the metric was not measured, or was not finite.
        measured: by tag (epochs,): whether it was measured.
    """

    row: Row
    values: Mapping[str, NDArray[np.float64]]
    measured: Mapping[str, NDArray[np.bool_]]

    @property
    def epochs(self) -> int:
        """How many were logged."""
        return len(next(iter(self.values.values())))

    @property
    def whole(self) -> bool:
        """Whether it has the last epoch that the run could have had: nothing stopped it before."""
        return self.row.status == "finished"


@dataclass(frozen=True)
class Curves:
    """The curves of a table.

    Attributes:
        ended: of runs that have ended with a value.
        diverged: of runs that have diverged, up to the last epoch before.
        others: of runs that have failed, were pruned or interrupted, or still train.
        left_out: how many runs have not `ended`, by why.
    """

    ended: tuple[Curve, ...]
    diverged: tuple[Curve, ...]
    others: tuple[Curve, ...]
    left_out: Mapping[str, int]


def read(table: Table, tags: Sequence[str], reader: Reader = run_folder.epochs) -> Curves:
    """Reads the curves of all runs.

    Args:
        table: of the runs.
        tags: the metrics that are kept, one or more.
        reader: gives the lines of a run's epochs from its folder.
    """
    ended: list[Curve] = []
    diverged: list[Curve] = []
    others: list[Curve] = []
    left_out: Counter[str] = Counter()
    for row in table.rows:
        curve = _curve(row, reader(row.folder), tags)
        if curve is None or not _is_the_records(curve, table.metric):
            left_out[NO_CURVE if row.ended else _why(row, table.metric)] += 1
        elif row.ended:
            ended.append(curve)
        else:
            left_out[_why(row, table.metric)] += 1
            (diverged if row.status == "diverged" else others).append(curve)
    return Curves(tuple(ended), tuple(diverged), tuple(others), dict(left_out))


def _curve(row: Row, lines: Sequence[Mapping[str, Any]], tags: Sequence[str]) -> Curve | None:
    """A run's curve; None unless each epoch from 0 on has a line of numbers."""
    if row.status == "diverged":
        lines = lines[: max(row.epochs - 1, 0)]  # the epoch in which it did has no value
    if not lines or any(line.get("epoch") != number for number, line in enumerate(lines)):
        return None
    values, measured = {}, {}
    for tag in dict.fromkeys(tags):
        try:
            found = np.array([line.get(tag) for line in lines], dtype=np.float64)  # of None it makes NaN
        except (TypeError, ValueError, OverflowError):
            return None
        if found.ndim != 1:
            return None
        found[~np.isfinite(found)] = math.nan
        values[tag] = found
        measured[tag] = np.fromiter((tag in line for line in lines), np.bool_, len(lines))
    return Curve(row, values, measured)


def _is_the_records(curve: Curve, metric: str) -> bool:
    """Whether a run that has ended logged all its epochs, and the value that its record names."""
    row = curve.row
    if not row.ended:
        return True
    if curve.epochs != row.epochs or row.best_epoch >= row.epochs:
        return False
    return not (
        chosen_by(row.run) == metric
        and row.best_epoch >= 0
        and curve.values[metric][row.best_epoch] != row.value
    )


def _why(row: Row, metric: str) -> str:
    """Why a run that has not ended with a value is left out."""
    return f"without {metric}" if row.status in ("finished", "stopped early") else row.status
