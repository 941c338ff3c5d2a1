"""Precision over recall, as TensorBoard's PR Curves tab takes it."""

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = 101  # every hundredth


def precision_recall(shares: NDArray[np.floating], positive: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Counts, precision and recall if every example with a share of at least a threshold is called positive.

    Args:
        shares: (examples,) the probability that a model gives, in [0, 1].
        positive: (examples,) whether it is so.

    Returns:
        (6, thresholds): true positives, false positives, true negatives, false negatives, precision, recall;
        0 where a denominator is.
    """
    cells = np.floor(np.clip(shares, 0, 1) * (THRESHOLDS - 1)).astype(np.int64)
    hits, alarms = (
        np.bincount(cells[those], minlength=THRESHOLDS)[::-1].cumsum()[::-1].astype(np.float64)
        for those in (positive, ~positive)
    )
    misses, quiet = hits[0] - hits, alarms[0] - alarms
    precision = hits / np.maximum(hits + alarms, 1)
    recall = hits / np.maximum(hits + misses, 1)
    return np.stack([hits, alarms, quiet, misses, precision, recall]).astype(np.float32)
