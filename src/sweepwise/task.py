"""What a network is trained for: the loss and the metrics, over a leading axis of runs.

Metrics are sums over examples that are divided once, at the end; so a smaller last batch weighs what its
examples weigh.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Task(Protocol):
    """Loss and metrics of one kind of target."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names, the loss first."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch of one run, a scalar; outputs: (batch, outputs)."""
        ...

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(runs, terms) float64 sums over the examples; outputs: (runs, examples, outputs)."""
        ...

    def finish(self, sums: Tensor, examples: int) -> dict[str, Tensor]:
        """The metrics, each (runs,), from sums over `examples` examples."""
        ...


class Classification:
    """Cross-entropy and accuracy. Targets: (..., examples) int64 classes."""

    metrics = ("loss", "accuracy")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats."""
        return functional.cross_entropy(outputs, targets)

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Summed cross-entropy and right answers: (runs, 2)."""
        wanted = outputs.gather(-1, targets[..., None]).squeeze(-1)
        losses = outputs.logsumexp(-1) - wanted  # four times as fast as log_softmax over few classes
        right = (outputs.max(-1).indices == targets).sum(1, dtype=torch.float64)
        return torch.stack([losses.sum(1, dtype=torch.float64), right], 1)

    def finish(self, sums: Tensor, examples: int) -> dict[str, Tensor]:
        """Loss and the share of right answers."""
        loss, right = (sums / examples).unbind(1)
        return {"loss": loss, "accuracy": right}


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

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Squared and absolute errors, targets and their squares, each summed: (runs, 4)."""
        wanted = targets.double()
        errors = outputs.squeeze(-1).double() - wanted
        terms = (errors.square(), errors.abs(), wanted, wanted.square())
        return torch.stack([term.sum(1) for term in terms], 1)

    def finish(self, sums: Tensor, examples: int) -> dict[str, Tensor]:
        """R2 is 1 - residual / total sum of squares, as in scikit-learn's r2_score."""
        squared, absolute, mean, square = (sums / examples).unbind(1)
        return {
            "loss": squared,
            "mse": squared * self._unit**2,
            "mae": absolute * self._unit,
            "r2": 1 - squared / (square - mean.square()),
        }


def task_of(classes: int, target_std: float) -> Task:
    """The task of a data set; 0 classes: regression."""
    return Classification() if classes else Regression(target_std)
