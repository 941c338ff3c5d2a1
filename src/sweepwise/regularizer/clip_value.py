"""Gradient clipping by value."""

from typing import Annotated

from torch import Tensor

from sweepwise.config.ranges import Range
from sweepwise.regularizer.base import Regularizer, nan_where_infinite


class ClipValue(Regularizer):
    """Limits each component of the gradient to [-limit, limit], as torch's `clip_grad_value_`.

    Unlike `clip_norm` this changes the direction of the gradient. A gradient whose norm is
    not finite becomes NaN, as by `clip_norm`.

    Args:
        limit: > 0.

    Source: Graves, Generating Sequences With Recurrent Neural Networks, arXiv:1308.0850.

    Example:
        >>> gradient = torch.tensor([[-3.0, 0.5, 2.0]])
        >>> ClipValue(limit=1.0).clip_(gradient)
        >>> gradient.tolist()
        [[-1.0, 0.5, 1.0]]
    """

    by_element = True
    limit_of = "limit"

    def __init__(self, *, limit: Annotated[float, Range(0, open_low=True)] = 1.0) -> None:
        self.limit = limit

    def clip_(self, gradient: Tensor) -> None:
        """Limits the components."""
        limits = self.limit + nan_where_infinite(self.norms(gradient))
        gradient.clamp_(-limits, limits)
