"""Soft orthogonality."""

from typing import Annotated

import torch
from torch import Tensor

from sweepwise.config.ranges import Range
from sweepwise.regularizer.base import Regularizer


class Orthogonal(Regularizer):
    """Adds coefficient * sum |W W' - I|^2 over all layers to the loss, so 4 coefficient (W W' - I) W.

    W: (out, in * kernel) is any weight with two dimensions or more. If it has more rows than columns, only
    the columns can be orthonormal, so the penalty is |W' W - I|^2; its gradient is the same,
    4 coefficient W (W' W - I).

    Args:
        coefficient: >= 0.

    Source: Bansal, Chen & Wang, Can We Gain More from Orthogonality Regularizations in Training Deep CNNs?,
    arXiv:1810.09102 (soft orthogonality). Brock et al., Neural Photo Editing, arXiv:1609.07093.

    Example:
        >>> rule = Orthogonal(coefficient=1.0)
        >>> rule.shapes = [torch.Size([2, 2])]
        >>> rule.penalty(torch.tensor([[2.0, 0.0, 0.0, 2.0]]))  # W W' - I = 3 I
        tensor([18.])
    """

    strength = "_coefficient"

    def __init__(self, *, coefficient: Annotated[float, Range(0)] = 1e-4) -> None:
        self._coefficient = coefficient

    def penalty(self, weights: Tensor) -> Tensor:
        """The penalty, (runs,)."""
        errors = [_error(matrix).square().sum((1, 2)) for matrix in self.matrices(weights)]
        return self._coefficient * torch.stack(errors).sum(0)

    def before_step_(self, weights: Tensor, gradient: Tensor, rate: float) -> None:
        """Adds the penalty's gradient."""
        for matrix, part in zip(self.matrices(weights), self.matrices(gradient), strict=True):
            factors = (_error(matrix), matrix) if _wide(matrix) else (matrix, _error(matrix))
            part.baddbmm_(*factors, alpha=4 * self._coefficient)


def _error(matrix: Tensor) -> Tensor:
    """The smaller Gram matrix less the identity, from (runs, out, in)."""
    gram = matrix @ matrix.mT if _wide(matrix) else matrix.mT @ matrix
    gram.diagonal(dim1=1, dim2=2).sub_(1)
    return gram


def _wide(matrix: Tensor) -> bool:
    return matrix.shape[1] <= matrix.shape[2]
