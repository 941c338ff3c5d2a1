"""Chooses the task of a data set: its loss and metrics, over a leading axis of runs.

Metrics are sums over examples that are divided once at the end, so a smaller last batch has the weight of its
examples. During training only the chosen metrics are computed, at the end all.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from sweepwise.task.class_weights import balanced_weights
from sweepwise.task.classification import Classification
from sweepwise.task.protocol import Task
from sweepwise.task.regression import Regression


def task_of(
    classes: int,
    target_std: float,
    *,
    labels: Tensor | None = None,
    metrics: Sequence[str] | Literal["auto"] = "auto",
    class_weights: Sequence[float] | Literal["none", "balanced"] = "none",
) -> Task:
    """The task of a data set.

    Args:
        classes: number of classes; 0: regression.
        target_std: the unit of standardised targets, > 0.
        labels: the training part's; `class_weights='balanced'` counts them.
        metrics: names of those computed during training, beside the loss; 'auto': accuracy, or mse, mae, r2.
        class_weights: see `Classification`; 'balanced': see `balanced_weights`.

    Raises:
        ValueError: a metric that the task does not have, or weights that do not fit the classes.
    """
    if not classes:
        if class_weights != "none":
            raise ValueError(
                f"trainer.class_weights={class_weights}: must be none, as a regression has no classes"
            )
        return Regression(target_std, metrics=Regression.every if metrics == "auto" else metrics)
    chosen = ("accuracy",) if metrics == "auto" else metrics
    if class_weights == "none":
        return Classification(classes, metrics=chosen)
    if class_weights == "balanced":
        assert labels is not None, "'balanced' needs the labels"
        class_weights = balanced_weights(labels, classes)
    return Classification(classes, metrics=chosen, class_weights=class_weights)
