"""Curves of runs: the cost of each epoch, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweepwise.results import run_folder
from sweepwise.results.table import Row, Table

STILL = (None, "constant")  # schedulers whose rate does not change after the warm-up
ZERO = 0.001  # of its largest: a rate that fell below has ended training
SAME = 1e-6  # of its largest: smaller changes of a rate are rounding
Curves = Callable[[Row], Sequence[Mapping[str, Any]]]  # of a run: its metrics of each epoch, by tag


@dataclass(frozen=True)
class Curve:
    """A run's costs by epoch; lower is better.

    Attributes:
        row: the run.
        epochs: at which the metric was measured, ascending.
        costs: of them.
    """

    row: Row
    epochs: tuple[int, ...]
    costs: tuple[float, ...]

    def best_by(self, epoch: int) -> float:
        """The best cost up to an epoch; inf before the first."""
        return min(
            (cost for at, cost in zip(self.epochs, self.costs, strict=True) if at <= epoch), default=math.inf
        )

    @property
    def best_epoch(self) -> int:
        """At which the best cost was reached."""
        return self.epochs[self.costs.index(min(self.costs))]


def from_folder(row: Row) -> list[dict[str, Any]]:
    """The metrics of a run's folder."""
    return run_folder.epochs(row.folder)


def curve(table: Table, row: Row, curves: Curves) -> Curve | None:
    """The curve of a run's metric; None if it has none. Epochs without a finite value are left out."""
    epochs, costs = [], []
    for place, line in enumerate(curves(row)):
        value, epoch = line.get(table.metric), line.get("epoch", place)
        if isinstance(value, (int, float)) and math.isfinite(value) and isinstance(epoch, int):
            epochs.append(epoch)
            costs.append(table.sign * float(value))
    return Curve(row, tuple(epochs), tuple(costs)) if epochs else None


def is_still(one: Curve, curves: Curves, since: int) -> bool:
    """Whether a run's rate stayed as it was from an epoch on, as logged (`lr/...`), and is not near 0.

    Where most of these epochs have no logged rate, only a constant schedule is known to stay.
    """
    logged = _rates(one.row, curves)
    constant = one.row.run.settings.get("scheduler") in STILL
    epochs = {epoch for values in logged.values() for epoch, _ in values if epoch >= since}
    last = one.epochs[-1]
    if not constant and (max(epochs, default=-1) < last - 1 or 2 * len(epochs) <= last - since):
        return False
    for values in logged.values():
        largest = max(rate for _, rate in values)
        before = [rate for epoch, rate in values if epoch < since][-1:]
        used = [*before, *(rate for epoch, rate in values if epoch >= since)]
        if max(used) - min(used) > SAME * largest or used[-1] <= ZERO * largest:
            return False
    return True


def _rates(row: Row, curves: Curves) -> dict[str, list[tuple[int, float]]]:
    """The rates of a run by name, with their epochs: of the lines of its curves, else of its folder."""
    found: dict[str, list[tuple[int, float]]] = {}
    for place, line in enumerate(curves(row)):
        epoch = line.get("epoch", place)
        for tag, value in line.items():
            if tag.startswith("lr/") and isinstance(value, (int, float)) and isinstance(epoch, int):
                found.setdefault(tag, []).append((epoch, float(value)))
    return found or {
        name: [(epoch, rate) for _, epoch, rate in values]
        for name, values in run_folder.rates(row.folder).items()
    }
