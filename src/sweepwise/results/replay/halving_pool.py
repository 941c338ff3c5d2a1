"""The runs that take part in a replay of successive halving: their values at the rungs and at their ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweepwise.errors import UsageError
from sweepwise.results.replay.logged import Curve
from sweepwise.results.table import Row, Table, Values


@dataclass(frozen=True)
class Pool:
    """The runs that take part, by setting and replicate.

    Attributes:
        settings: that take part.
        costs: (settings, replicates, rungs) the metric at each rung, signed: lower is better; inf for a run
            that had failed; NaN for one that is not there.
        ends: (settings, replicates) the same of the weights kept; inf for a run without.
        epochs: (settings, replicates) that were trained.
        whole: which replicates all settings have.
        left_out: how many settings take no part.
    """

    settings: tuple[Values, ...]
    costs: NDArray[np.float64]
    ends: NDArray[np.float64]
    epochs: NDArray[np.int64]
    whole: NDArray[np.int64]
    left_out: int

    @classmethod
    def of(cls, table: Table, runs: Sequence[tuple[Row, Curve | None]], rungs: Sequence[int]) -> Pool:
        """The pool of runs that have ended or failed, with their curves where there are any."""
        costs_of = {id(row): _costs(table, row, curve, rungs) for row, curve in runs}
        compared = [row for row, _ in runs if not math.isnan(costs_of[id(row)][0])]
        text = ",".join(map(str, rungs))
        if runs and not any(row.ended for row in compared):
            rule = f"{table.metric} must have been measured by the first rung, in runs that have ended"
            raise UsageError([f"rungs={text}: {rule}"])
        rows = {
            setting: place for place, setting in enumerate(dict.fromkeys(row.setting for row in compared))
        }
        if len(rows) < 2:
            rule = "two settings or more must have runs that have ended, with their curves"
            raise UsageError([f"rungs={text}: {rule}, but {len(rows)} have"])
        columns = {key: place for place, key in enumerate(dict.fromkeys(row.replicate for row in compared))}
        shape = len(rows), len(columns)
        costs = np.full((*shape, len(rungs)), math.nan)
        ends, epochs = np.full(shape, math.nan), np.zeros(shape, np.int64)
        for row in compared:
            place = rows[row.setting], columns[row.replicate]
            costs[place], epochs[place] = costs_of[id(row)], row.epochs
            ends[place] = _end(table, row)
        whole = np.flatnonzero(~np.isnan(ends).any(axis=0))
        return cls(tuple(rows), costs, ends, epochs, whole, len(table.cells) - len(rows))

    def ranks(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Ranks of settings at the rungs and at the end, and their mean epochs; an axis of 1 in front."""
        rungs = self.costs.shape[2]
        costs = np.stack([_ranks(self.costs[..., rung]) for rung in range(rungs)], axis=1)
        known = ~np.isnan(self.ends)
        epochs = self.epochs.sum(axis=1) // known.sum(axis=1)
        return costs[None], _ranks(self.ends)[None], epochs[None]

    def results(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(settings,) the share of runs that failed, and the mean end of the others; NaN without others."""
        return _failed(self.ends), _survivors(self.ends)

    def drawn(self, draws: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """(draws, settings) a replicate that each setting has."""
        known = ~np.isnan(self.ends)
        order = np.argsort(~known, axis=1, kind="stable")  # those that are there come first
        picked = (generator.random((draws, len(known))) * known.sum(axis=1)).astype(np.int64)
        return order[np.arange(len(known)), picked]


def _failed(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of a setting's runs, (settings, replicates), that failed."""
    return np.isinf(costs).sum(axis=1) / (~np.isnan(costs)).sum(axis=1)


def _survivors(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of a setting's runs that did not fail; NaN where all did."""
    there = np.isfinite(costs)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, costs, 0.0).sum(axis=1) / there.sum(axis=1))


def _ranks(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of settings, by the share of failed runs, then by the mean of the others; equal ones share a rank."""
    keys = np.stack([_failed(costs), np.nan_to_num(_survivors(costs))], axis=1)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(float)


def _end(table: Table, row: Row) -> float:
    """What a run ended with, signed; inf for one that failed."""
    return table.sign * row.value if row.ended and row.value is not None else math.inf


def _costs(table: Table, row: Row, curve: Curve | None, rungs: Sequence[int]) -> NDArray[np.float64]:
    """A run's signed values at the rungs; NaN where the metric had not been measured yet."""
    costs = np.full(len(rungs), math.inf)
    epochs = curve.epochs if curve else 0
    for place, rung in enumerate(rungs):
        if row.ended and epochs <= rung:
            costs[place] = _end(table, row)
        elif curve and rung <= epochs:
            at = np.flatnonzero(curve.measured[table.metric][:rung])
            value = table.sign * curve.values[table.metric][at[-1]] if len(at) else 0.0
            costs[place] = math.nan if not len(at) else math.inf if math.isnan(value) else value
    return costs
