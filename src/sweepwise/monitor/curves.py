"""Computes precision over recall, for TensorBoard's PR Curves tab."""

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = 101  # 0, 0.01, ..., 1


def precision_recall(probabilities: NDArray[np.floating], positive: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Counts, precision and recall if examples with at least a threshold's probability are called positive.

    Args:
        probabilities: (examples,) the model's, in [0, 1].
        positive: (examples,) whether the example is positive.

    Returns:
        (6, thresholds): true positives, false positives, true negatives, false negatives, precision, recall;
        0 where the denominator is 0.
    """
    cells = np.floor(np.clip(probabilities, 0, 1) * (THRESHOLDS - 1)).astype(np.int64)
    true_positives, false_positives = (
        np.bincount(cells[subset], minlength=THRESHOLDS)[::-1].cumsum()[::-1].astype(np.float64)
        for subset in (positive, ~positive)
    )
    false_negatives = true_positives[0] - true_positives
    true_negatives = false_positives[0] - false_positives
    precision = true_positives / np.maximum(true_positives + false_positives, 1)
    recall = true_positives / np.maximum(true_positives + false_negatives, 1)
    counts = [true_positives, false_positives, true_negatives, false_negatives]
    return np.stack([*counts, precision, recall]).astype(np.float32)
