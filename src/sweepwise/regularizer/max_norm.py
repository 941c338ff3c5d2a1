"""Max-norm constraint."""

from typing import Annotated

import torch
from torch import Tensor

from sweepwise.config.ranges import Range
from sweepwise.regularizer.base import Regularizer, nan_where_infinite


class MaxNorm(Regularizer):
    """After each step, w <- w * min(1, limit / |w|) for the incoming weights w of each unit.

    A unit is an output of a linear layer or an output channel of a convolution; also of the last layer.
    Biases are not changed. An embedding's units are its vectors, as in nn.Embedding's `max_norm`. A
    transposed convolution stores (in, out, kernel): its units are the input channels. Weights whose norm
    overflows become NaN: the run then ends as diverged.

    Args:
        limit: Euclidean norm, > 0, kept up to rounding. 3 to 4 is usual beside dropout.

    Source: Hinton et al., Improving neural networks by preventing co-adaptation of feature detectors,
    arXiv:1207.0580. Srivastava et al., Dropout, JMLR 15 (2014), section 5.1.

    Example:
        >>> rule, weights = MaxNorm(limit=1.0), torch.tensor([[3.0, 4.0, 0.3, 0.4]])
        >>> rule.shapes = [torch.Size([2, 2])]
        >>> rule.after_step_(weights, rate=0.1)
        >>> weights
        tensor([[0.6000, 0.8000, 0.3000, 0.4000]])
    """

    limit_of = "_limit"

    def __init__(self, *, limit: Annotated[float, Range(0, open_low=True)] = 3.0) -> None:
        self._limit = limit

    def after_step_(self, weights: Tensor, rate: float) -> None:
        """Projects each unit's weights."""
        for matrix in self.matrices(weights):
            norms = torch.linalg.vector_norm(matrix, dim=2, keepdim=True)
            matrix.mul_((self._limit / norms).clamp_(max=1) + nan_where_infinite(norms))
