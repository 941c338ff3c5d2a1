"""The mean cross-entropy of several runs at once."""

import torch
from torch import Tensor


def cross_entropies(outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """-mean over the examples of w[target] log softmax(outputs)[target], for each run: (runs,).

    Args:
        outputs: (runs, batch, classes).
        targets: (runs, batch) classes, or (runs, batch, classes) probabilities.
        weights: of the classes, (classes,); None: each is 1.
    """
    logarithms = _logarithms(outputs)
    if targets.ndim == 2:
        places = targets.unsqueeze(1)
        return _means(logarithms.gather(1, places), None if weights is None else weights[places])
    return _means(logarithms, _weighed(targets, weights))


def with_gradient(outputs: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """The same, and the derivative by the outputs."""
    logarithms = _logarithms(outputs)
    examples = logarithms.shape[2]
    if targets.ndim == 2:
        places = targets.unsqueeze(1)
        weighed = None if weights is None else weights[places]
        found = logarithms.gather(1, places)
        losses = _means(found, weighed)
        by_outputs = logarithms.exp().scatter_(1, places, found.expm1_())
        by_outputs.mul_((1 if weighed is None else weighed) / examples)
    else:
        weighed = _weighed(targets, weights)
        losses = _means(logarithms, weighed)
        by_logarithms = weighed * (-1 / examples)
        by_outputs = torch._log_softmax_backward_data(by_logarithms, logarithms, 1, logarithms.dtype)
    return losses, by_outputs.transpose(1, 2)


def _logarithms(outputs: Tensor) -> Tensor:
    """(runs, classes, batch): along the last axis, a softmax of few classes is slow."""
    return torch.log_softmax(outputs.detach().transpose(1, 2).contiguous(), 1)


def _weighed(targets: Tensor, weights: Tensor | None) -> Tensor:
    shares = targets.transpose(1, 2)
    return shares if weights is None else shares * weights[:, None]


def _means(logarithms: Tensor, weighed: Tensor | None) -> Tensor:
    terms = logarithms if weighed is None else logarithms * weighed
    return terms.sum((1, 2)).div_(-terms.shape[2])
