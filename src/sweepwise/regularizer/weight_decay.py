"""Decoupled weight decay."""

from typing import Annotated

from torch import Tensor

from sweepwise.config.ranges import Range
from sweepwise.regularizer.base import Regularizer


class WeightDecay(Regularizer):
    """Multiplies every weight by 1 - rate * coefficient in each step, for any optimizer.

    It does not enter the gradient or the optimizer's moments, so after t steps without a gradient
    w = w0 (1 - rate * coefficient)^t, as in AdamW.

    Args:
        coefficient: >= 0; AdamW's `weight_decay`.

    Source: Loshchilov & Hutter, Decoupled Weight Decay Regularization, arXiv:1711.05101, algorithm 2.

    Example:
        >>> weights = torch.tensor([[1.0, -2.0]])
        >>> WeightDecay(coefficient=0.5).before_step_(weights, torch.zeros(1, 2), rate=0.5)
        >>> weights.tolist()
        [[0.75, -1.5]]
    """

    by_element = True
    strength = "_coefficient"

    def __init__(self, *, coefficient: Annotated[float, Range(0)] = 0.01) -> None:
        self._coefficient = coefficient

    def before_step_(self, weights: Tensor, gradient: Tensor, rate: float) -> None:
        """Shrinks the weights; the optimizer then adds its update."""
        weights.mul_(1 - rate * self._coefficient)
