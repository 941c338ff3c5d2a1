"""L2 as a penalty in the loss."""

from typing import Annotated

from torch import Tensor

from sweepwise.config.ranges import Range
from sweepwise.regularizer.base import Regularizer


class L2(Regularizer):
    """Adds coefficient * sum w^2 to the loss, so 2 * coefficient * w to the gradient.

    With plain SGD it equals weight decay of 2 * coefficient (ridge regression). Adam rescales the gradient,
    and with it that of the penalty; use `weight_decay` to avoid that.

    Args:
        coefficient: >= 0.

    Example:
        >>> weights, gradient = torch.tensor([[3.0, -4.0]]), torch.zeros(1, 2)
        >>> L2(coefficient=0.5).before_step_(weights, gradient, rate=0.1)
        >>> L2(coefficient=0.5).penalty(weights).item(), gradient.tolist()
        (12.5, [[3.0, -4.0]])
    """

    by_element = True
    strength = "_coefficient"

    def __init__(self, *, coefficient: Annotated[float, Range(0)] = 1e-4) -> None:
        self._coefficient = coefficient

    def penalty(self, weights: Tensor) -> Tensor:
        """The penalty, coefficient * sum w^2, (runs,)."""
        return self._coefficient * weights.square().sum(1)

    def before_step_(self, weights: Tensor, gradient: Tensor, rate: float) -> None:
        """Adds the penalty's gradient."""
        gradient.add_(weights, alpha=2 * self._coefficient)
