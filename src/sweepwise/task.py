"""What a network is trained for: the loss and the metrics, over a leading axis of runs.

Metrics are sums over examples that are divided once, at the end; so a smaller last batch weighs what its
examples weigh.
"""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Means = NDArray[np.float64]


class Task(Protocol):
    """Loss and metrics of one kind of target."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names, the loss first."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch of one run, a scalar.

        Args:
            outputs: (batch, outputs).
            targets: (batch,), or as `soft` gives them.
        """
        ...

    def soft(self, targets: Tensor) -> Tensor:
        """Targets that can be mixed: (batch, classes) probabilities, or real targets as they are."""
        ...

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What the other metrics need, summed over the examples in float64.

        Args:
            outputs: (runs, examples, outputs).
            targets: (runs, examples).

        Returns:
            (runs, terms).
        """
        ...

    def finish(self, loss: Means, means: Means) -> dict[str, Means]:
        """The metrics, each (runs,), from the mean loss (runs,) and the means of the terms, (runs, terms)."""
        ...


class Classification:
    """Cross-entropy in nats, and accuracy. Targets are int64 classes or probabilities of them.

    Args:
        classes: number of classes, >= 1.
    """

    metrics = ("loss", "accuracy")

    def __init__(self, classes: int) -> None:
        self._classes = classes

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return functional.cross_entropy(outputs, targets)

    def soft(self, targets: Tensor) -> Tensor:
        """One-hot, (batch, classes)."""
        return functional.one_hot(targets, self._classes).to(torch.get_default_dtype())

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Right answers, (runs, 1)."""
        right = outputs.max(-1).indices == targets
        return right.sum(1, keepdim=True, dtype=torch.float64)

    def finish(self, loss: Means, means: Means) -> dict[str, Means]:
        """Loss and the share of right answers."""
        return {"loss": loss, "accuracy": means[:, 0]}


class Regression:
    """Mean squared error on standardised targets; MSE and MAE in the targets' own units, and R2.

    Args:
        target_std: the unit of the standardised targets, > 0.
    """

    metrics = ("loss", "mse", "mae", "r2")

    def __init__(self, target_std: float) -> None:
        self._unit = target_std

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error; outputs: (batch, 1)."""
        return functional.mse_loss(outputs.squeeze(-1), targets)

    def soft(self, targets: Tensor) -> Tensor:
        """As they are."""
        return targets

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Absolute errors, targets and their squares, (runs, 3)."""
        wanted = targets.double()
        errors = outputs.squeeze(-1).double() - wanted
        return torch.stack([term.sum(1) for term in (errors.abs(), wanted, wanted.square())], 1)

    def finish(self, loss: Means, means: Means) -> dict[str, Means]:
        """R2 is 1 - residual / total sum of squares, as in scikit-learn's r2_score."""
        absolute, mean, square = means.T
        return {
            "loss": loss,
            "mse": loss * self._unit**2,
            "mae": absolute * self._unit,
            "r2": 1 - loss / (square - mean**2),
        }


def task_of(classes: int, target_std: float) -> Task:
    """The task of a data set; 0 classes: regression."""
    return Classification(classes) if classes else Regression(target_std)
