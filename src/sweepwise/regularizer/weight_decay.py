"""Decoupled weight decay."""

from typing import Annotated

from torch import Tensor

from sweepwise.regularizer import Regularizer
from sweepwise.schema import Range


class WeightDecay(Regularizer):
    """Shrinks every weight by the factor 1 - rate * coefficient a step, whatever the optimizer.

    The gradient and the optimizer's moments never see it, so after t steps without a gradient
    w = w0 (1 - rate * coefficient)^t, as in AdamW.

    Args:
        coefficient: >= 0; AdamW's `weight_decay`.

    Source: Loshchilov & Hutter, Decoupled Weight Decay Regularization, arXiv:1711.05101, algorithm 2.
    """

    by_element = True

    def __init__(self, *, coefficient: Annotated[float, Range(0)] = 0.01) -> None:
        self._coefficient = coefficient

    def before_step_(self, weights: Tensor, gradient: Tensor, rate: float) -> None:
        """Shrinks the weights; the optimizer then adds its update."""
        weights.mul_(1 - rate * self._coefficient)
