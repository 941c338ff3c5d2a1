"""Few units: whole rows of weights go to zero."""

from typing import Annotated

import torch
from torch import Tensor

from sweepwise import Range, Regularizer


class GroupLasso(Regularizer):
    """Adds coefficient * sum of the Euclidean norm of each unit's incoming weights, ||w_u||.

    Args:
        coefficient: >= 0.

    Source: Scardapane et al., Group Sparse Regularization for Deep Neural Networks, arXiv:1607.00485.
    """

    def __init__(self, *, coefficient: Annotated[float, Range(0)] = 1e-4) -> None:
        self._coefficient = coefficient

    def penalty(self, weights: Tensor) -> Tensor:
        """The penalty, (runs,)."""
        norms = [torch.linalg.vector_norm(matrix, dim=2).sum(1) for matrix in self.matrices(weights)]
        return self._coefficient * torch.stack(norms).sum(0)

    def before_step_(self, weights: Tensor, gradient: Tensor, rate: float) -> None:
        """Adds the gradient, w / ||w_u||; 0 where the norm is."""
        for matrix, slope in zip(self.matrices(weights), self.matrices(gradient), strict=True):
            norm = torch.linalg.vector_norm(matrix, dim=2, keepdim=True)
            slope.add_(matrix / norm.clamp_min(1e-12), alpha=self._coefficient)
