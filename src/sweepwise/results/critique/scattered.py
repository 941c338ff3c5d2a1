"""Keys whose values were drawn at random, or whose settings were run once: settings are the replicates."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from sweepwise.results.critique.design import Along
from sweepwise.results.critique.scale import is_number
from sweepwise.results.table import Table

LEAST = 12  # settings with a result
PER_BIN = 6  # settings in each part of the range, at least
MOST_BINS = 6
FEW = 6  # values of another key up to which each has an effect of its own
LEAST_DF = 6


def at_edge(table: Table, one: Along) -> tuple[bool, float, float, float] | None:
    """Whether the outermost values are the best ones, by a regression over settings.

    The range is cut into parts of equally many settings; the ranks of the settings' means are regressed on
    them and on the other keys: those with few values by value, numbers by a parabola. Ranks, as losses have
    long tails; settings without a value have the last ones. The outermost part is compared with the one
    beside it.

    Returns:
        Whether it is the upper edge; by how many ranks it is better; the standard error; the two-sided p
        value. None where no edge looks best, or there are too few settings.
    """
    place = table.settings.index(one.key)
    means = {
        setting: sum(costs) / len(costs) if costs else math.inf
        for setting, rows in table.cells.items()
        for costs in [[table.sign * row.value for row in rows if row.ended and row.value is not None]]
        if (costs or any(row.failed for row in rows)) and is_number(setting[place])
    }
    if len(means) < LEAST:
        return None
    bins = _bins(np.array([setting[place] for setting in means], float))
    count = int(bins.max()) + 1
    if count < 3:
        return None
    costs = np.array(list(means.values()))
    y = np.argsort(np.argsort(costs)).astype(float)
    y[np.isinf(costs)] = y[np.isinf(costs)].mean() if np.isinf(costs).any() else 0.0
    own = np.eye(count)[bins]
    columns = [own]
    for other in range(len(table.settings)):
        if other != place:
            columns.append(_columns([setting[other] for setting in means]))
    design = np.hstack(columns)
    coefficients, _, rank, _ = np.linalg.lstsq(design, y, rcond=1e-10)
    df = len(y) - int(rank)
    if df < LEAST_DF:
        return None
    noise = float(np.sum((y - design @ coefficients) ** 2)) / df
    best = int(np.argmin(coefficients[:count]))
    if best not in (0, count - 1):
        return None
    high = best == count - 1
    difference = np.zeros(design.shape[1])
    difference[best], difference[best - 1 if high else 1] = 1, -1
    gain = -float(difference @ coefficients)
    error = math.sqrt(noise * float(difference @ np.linalg.pinv(design.T @ design, rcond=1e-10) @ difference))
    return high, gain, error, 2 * float(stdtr(df, -gain / error)) if error else 0.0


def _bins(x: NDArray) -> NDArray:
    """The part of the range that each value is in; equal values are in the same part."""
    count = min(MOST_BINS, len(x) // PER_BIN)
    levels, codes, counts = np.unique(x, return_inverse=True, return_counts=True)
    if len(levels) <= MOST_BINS:
        return codes
    middle = np.cumsum(counts) - counts / 2
    parts = np.floor(middle / len(x) * count).astype(int)
    return np.unique(parts, return_inverse=True)[1][codes]


def _columns(values: Sequence[Hashable]) -> NDArray:
    """(n, columns): what another key explains; none where it has many values that are no numbers."""
    levels = list(dict.fromkeys(values))
    if len(levels) <= FEW:
        codes = [levels.index(value) for value in values]
        return np.eye(len(levels))[codes][:, 1:]
    if all(map(is_number, levels)):
        ranks = np.unique(np.array(values, float), return_inverse=True)[1] / (len(levels) - 1) - 0.5
        return np.column_stack([ranks, ranks**2])
    return np.zeros((len(values), 0))
