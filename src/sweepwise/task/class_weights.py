"""The weights of classes in the loss."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def balanced_weights(labels: Tensor, classes: int) -> list[float]:
    """Weights that give each class the same total: examples / (classes * examples of the class).

    Their mean over the examples is 1. This is scikit-learn's `class_weight='balanced'`, which also refuses an
    absent class: no weight is right for a class without examples, and 0 would leave its validation examples
    out of the loss.

    Args:
        labels: (examples,) of the training part.
        classes: number of classes.

    Raises:
        ValueError: a class has no example.

    Source: King and Zeng, Logistic Regression in Rare Events Data, 2001
    (doi:10.1093/oxfordjournals.pan.a004868).
    """
    counts = torch.bincount(labels, minlength=classes).tolist()
    absent = [label for label, count in enumerate(counts) if not count]
    if absent:
        raise ValueError(
            f"trainer.class_weights=balanced: class {absent[0]} has no training example; "
            "give a weight for each class as a list, or use none"
        )
    return [len(labels) / (classes * count) for count in counts]


def checked_weights(weights: Sequence[float], classes: int) -> Tensor:
    """The weights as a tensor, (classes,) float64.

    Raises:
        ValueError: there is not one for each class, one is negative or not finite, or all are 0.
    """
    key = f"trainer.class_weights={list(weights)}"
    if len(weights) != classes:
        raise ValueError(f"{key}: must have one weight for each of the {classes} classes, not {len(weights)}")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise ValueError(f"{key}: must all be finite and at least 0")
    if not any(weights):
        raise ValueError(f"{key}: must not all be 0, as nothing would be learned")
    return torch.tensor(list(weights), dtype=torch.float64)
