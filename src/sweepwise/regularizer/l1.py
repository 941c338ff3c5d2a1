"""L1: sparse weights."""

from typing import Annotated

from torch import Tensor
from torch.nn import functional

from sweepwise.config.ranges import Range
from sweepwise.regularizer.base import Regularizer


class L1(Regularizer):
    """Adds coefficient * sum |w| to the loss.

    By its subgradient, coefficient * sign(w), weights come close to 0 but hardly ever reach it. In proximal
    mode each step is followed by soft-thresholding, w <- sign(w) max(|w| - rate * coefficient, 0), which
    gives exact zeros.

    Args:
        coefficient: >= 0.
        proximal: exact zeros by soft-thresholding.

    Source: Tibshirani, Regression Shrinkage and Selection via the Lasso, 1996; proximal: Parikh & Boyd,
    Proximal Algorithms, 2014, section 6.5.2.

    Example:
        >>> weights = torch.tensor([[0.25, -2.0]])
        >>> L1(coefficient=0.5).penalty(weights).item()
        1.125
        >>> L1(coefficient=5.0, proximal=True).after_step_(weights, rate=0.1)
        >>> weights.tolist()
        [[0.0, -1.5]]
    """

    by_element = True
    strength = "_coefficient"

    def __init__(self, *, coefficient: Annotated[float, Range(0)] = 1e-5, proximal: bool = False) -> None:
        self._coefficient = coefficient
        self._proximal = proximal

    def penalty(self, weights: Tensor) -> Tensor:
        """The penalty, coefficient * sum |w|, (runs,)."""
        return self._coefficient * weights.abs().sum(1)

    def before_step_(self, weights: Tensor, gradient: Tensor, rate: float) -> None:
        """Adds the subgradient, unless in proximal mode."""
        if not self._proximal:
            gradient.add_(weights.sign(), alpha=self._coefficient)

    def after_step_(self, weights: Tensor, rate: float) -> None:
        """Soft-thresholds, in proximal mode."""
        if self._proximal:
            weights.copy_(functional.softshrink(weights, rate * self._coefficient))
