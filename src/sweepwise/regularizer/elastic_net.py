"""Elastic net: L1 and L2 together."""

from typing import Annotated

from torch import Tensor

from sweepwise.config.ranges import Range
from sweepwise.regularizer.base import Regularizer
from sweepwise.regularizer.l1 import L1
from sweepwise.regularizer.l2 import L2


class ElasticNet(Regularizer):
    """Adds alpha * (l1_ratio * sum |w| + (1 - l1_ratio) / 2 * sum w^2) to the loss.

    Args:
        alpha: strength, >= 0.
        l1_ratio: share of L1, from 0 (ridge) to 1 (lasso).
        proximal: exact zeros by soft-thresholding of the L1 part.

    Source: Zou & Hastie, Regularization and Variable Selection via the Elastic Net, 2005; the form of
    scikit-learn's ElasticNet (whose squared loss carries 1/2).

    Example:
        >>> ElasticNet(alpha=0.1, l1_ratio=0.5).penalty(torch.tensor([[3.0, -4.0]]))  # 0.1 * (7 / 2 + 25 / 4)
        tensor([0.9750])
    """

    by_element = True
    strength = "_alpha"

    def __init__(
        self,
        *,
        alpha: Annotated[float, Range(0)] = 1e-4,
        l1_ratio: Annotated[float, Range(0, 1)] = 0.5,
        proximal: bool = False,
    ) -> None:
        self._alpha = alpha
        self._parts = (
            L1(coefficient=alpha * l1_ratio, proximal=proximal),
            L2(coefficient=alpha * (1 - l1_ratio) / 2),
        )

    def penalty(self, weights: Tensor) -> Tensor:
        """The penalty, (runs,)."""
        return self._parts[0].penalty(weights) + self._parts[1].penalty(weights)

    def before_step_(self, weights: Tensor, gradient: Tensor, rate: float) -> None:
        """Adds the gradients of both parts."""
        for part in self._parts:
            part.before_step_(weights, gradient, rate)

    def after_step_(self, weights: Tensor, rate: float) -> None:
        """Soft-thresholds, in proximal mode."""
        for part in self._parts:
            part.after_step_(weights, rate)
