"""Gradient clipping by norm."""

from typing import Annotated

from torch import Tensor

from sweepwise.config.ranges import Range
from sweepwise.regularizer.base import Regularizer, nan_where_infinite


class ClipNorm(Regularizer):
    """Scales a run's whole gradient g by min(1, max_norm / (|g| + 1e-6)), as torch's `clip_grad_norm_`.

    The norm is that of the gradient of all parameters together, including penalties. A gradient whose norm is
    not finite, also if only the norm overflows, becomes NaN: the run then ends as diverged.

    Args:
        max_norm: Euclidean norm, > 0.

    Source: Pascanu, Mikolov & Bengio, On the difficulty of training recurrent neural networks,
    arXiv:1211.5063, algorithm 1.

    Example:
        >>> gradient = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
        >>> ClipNorm(max_norm=1.0).clip_(gradient)
        >>> gradient
        tensor([[0.6000, 0.8000],
                [0.3000, 0.4000]])
    """

    by_element = True
    limit_of = "max_norm"

    def __init__(self, *, max_norm: Annotated[float, Range(0, open_low=True)] = 1.0) -> None:
        self.max_norm = max_norm

    def clip_(self, gradient: Tensor) -> None:
        """Scales each row by its own factor."""
        norms = self.norms(gradient)
        factors = (self.max_norm / (norms + 1e-6)).clamp_(max=1)
        gradient.mul_(factors + nan_where_infinite(norms))
