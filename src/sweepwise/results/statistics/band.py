"""Means over replicates with Student's intervals, at many epochs at once."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit


def band(
    values: NDArray, confidence: float, possible: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Mean and Student's interval of each column.

    Args:
        values: (runs, epochs); NaN where a run has no value.
        confidence: of each interval for itself, in (0, 1).
        possible: the least and the largest value that there can be, beyond which no interval reaches.

    Returns:
        Mean, low and high, (epochs,) each, and the number of runs that count. With one run there is no
        interval: low and high are NaN.

    Source: as `estimate.mean_interval`, at all epochs at once.

    Example:
        >>> mean, low, high, n = band(np.array([[1.0, 1.0], [3.0, np.nan]]), 0.5)
        >>> mean.tolist(), [round(end, 6) for end in (low[0], high[0])], n.tolist()
        ([2.0, 1.0], [1.0, 3.0], [2, 1])
    """
    known = np.isfinite(values)
    n = known.sum(axis=0)
    filled = np.where(known, values, 0.0)
    with np.errstate(all="ignore"):
        mean = filled.sum(axis=0) / n
        squares = np.where(known, values - mean, 0.0) ** 2
        error = np.sqrt(squares.sum(axis=0) / (n - 1) / n)
        half = stdtrit(np.maximum(n - 1, 1), 1 - (1 - confidence) / 2) * error
        low, high = (np.where(n > 1, mean + sign * half, np.nan) for sign in (-1, 1))
        low = np.where(n > 1, np.minimum(np.maximum(low, possible[0]), mean), low)
        high = np.where(n > 1, np.maximum(np.minimum(high, possible[1]), mean), high)
    return mean, low, high, n
