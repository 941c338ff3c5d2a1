"""Regression: mean squared error and its metrics."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sweepwise.errors import did_you_mean
from sweepwise.task.protocol import Means, Pieces, chosen, rows, totals

ROUNDING = 1e-12  # a variance below this share of the mean square is one by rounding


class Regression:
    """Mean squared error on standardised targets; MSE and MAE in the targets' own units, and R2.

    Args:
        target_std: the unit of the standardised targets, > 0.
        metrics: those of 'mse', 'mae' and 'r2' that are computed during training.

    Attributes:
        metrics: their names, after 'loss'.

    Raises:
        ValueError: an unknown metric.
    """

    every = ("mse", "mae", "r2")

    def __init__(self, target_std: float, *, metrics: Sequence[str] = every) -> None:
        self._unit = target_std
        self.metrics = ("loss", *chosen(metrics))
        for name in self.metrics:
            if name not in (*self.every, "loss"):
                raise ValueError(f"trainer.metrics={name}: unknown; {did_you_mean(name, self.every)}")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error; outputs: (batch, 1)."""
        return functional.mse_loss(outputs.squeeze(-1), targets)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """`loss` of each run."""
        return (outputs.squeeze(-1) - targets).square().mean(1)

    def losses_and_gradient(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """See `Task.losses_and_gradient`."""
        errors = outputs.detach() - targets.unsqueeze(-1)
        return errors.square().mean((1, 2)), errors.mul_(2 / targets.shape[1])

    def soft(self, targets: Tensor) -> Tensor:
        """As they are."""
        return targets

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Absolute errors, targets and their squares, (runs, 3)."""
        wanted = targets.double()
        errors = outputs.squeeze(-1).double() - wanted
        return torch.stack([term.sum(1) for term in (errors.abs(), wanted, wanted.square())], 1)

    def finish(self, loss: Means, means: Means) -> dict[str, Means]:
        """R2 is 1 - residual / total sum of squares, as in scikit-learn; NaN if all targets are equal."""
        every = self._every(loss, means)
        return {name: every[name] for name in self.metrics}

    def measure(self, pieces: Pieces) -> list[dict[str, Any]]:
        """Loss, MSE, MAE and R2."""
        loss, terms, examples = totals(self.loss, self._sums_of_each, pieces)
        return rows(self._every(loss / examples, terms / examples))

    def _sums_of_each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """`sums` of one run after the other, as the rounding of a sum may depend on how many are taken."""
        return torch.cat([self.sums(*one) for one in zip(outputs.split(1), targets.split(1), strict=True)])

    def _every(self, loss: Means, means: Means) -> dict[str, Means]:
        absolute, mean, square = means.T
        variance = square - mean**2
        varies = variance > ROUNDING * square  # else R2 is not defined, as in a part of one example
        return {
            "loss": loss,
            "mse": loss * self._unit**2,
            "mae": absolute * self._unit,
            "r2": 1 - loss / np.where(varies, variance, np.nan),
        }
