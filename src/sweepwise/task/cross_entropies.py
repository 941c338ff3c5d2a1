"""The mean cross-entropy of several runs at once."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class CrossEntropies(torch.autograd.Function):
    """-mean over the examples of w[target] log softmax(outputs)[target], for each run.

    Classes stand in the second axis inside: along the last one, a softmax of few classes is slow. The
    gradient is w[target] (softmax - one-hot) / batch.
    """

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """outputs: (runs, batch, classes); targets: (runs, batch), or (runs, batch, classes) probabilities;
        weights: (classes,) -> (runs,).
        """
        logarithms = torch.log_softmax(outputs.transpose(1, 2).contiguous(), 1)
        ctx.labels = targets.ndim == 2
        if ctx.labels:
            targets = targets.unsqueeze(1)
            terms = logarithms.gather(1, targets)
            weighed = None if weights is None else weights[targets]
            terms = terms if weighed is None else terms * weighed
        else:
            targets = targets.transpose(1, 2)
            weighed = targets if weights is None else targets * weights[:, None]
            terms = logarithms * weighed
        ctx.save_for_backward(logarithms, targets, weighed)
        return terms.sum((1, 2)).div_(-outputs.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """The gradient by the outputs."""
        logarithms, targets, weighed = ctx.saved_tensors
        factors = (gradient / logarithms.shape[2]).view(-1, 1, 1)
        found = logarithms.exp()
        if ctx.labels:
            found.scatter_add_(1, targets, found.new_full((), -1.0).expand(targets.shape))
            factors = factors if weighed is None else factors * weighed
        else:
            found = found.mul_(weighed.sum(1, keepdim=True)).sub_(weighed)
        return found.mul_(factors).transpose(1, 2), None, None
