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
    log_probabilities = _log_probabilities(outputs)
    if targets.ndim == 2:
        index = targets.unsqueeze(1)
        return _means(log_probabilities.gather(1, index), None if weights is None else weights[index])
    return _means(log_probabilities, _weighted(targets, weights))


def with_gradient(outputs: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """The same, and its derivative with respect to the outputs, (runs, batch, classes)."""
    log_probabilities = _log_probabilities(outputs)
    examples = log_probabilities.shape[2]
    if targets.ndim == 2:
        index = targets.unsqueeze(1)
        weights_of_targets = None if weights is None else weights[index]
        own = log_probabilities.gather(1, index)
        losses = _means(own, weights_of_targets)
        by_outputs = log_probabilities.exp().scatter_(1, index, own.expm1_())
        by_outputs.mul_((1 if weights_of_targets is None else weights_of_targets) / examples)
    else:
        weights_of_targets = _weighted(targets, weights)
        losses = _means(log_probabilities, weights_of_targets)
        gradient = weights_of_targets * (-1 / examples)
        by_outputs = torch._log_softmax_backward_data(gradient, log_probabilities, 1, log_probabilities.dtype)
    return losses, by_outputs.transpose(1, 2)


def _log_probabilities(outputs: Tensor) -> Tensor:
    """(runs, classes, batch): log softmax; along the last axis it would be slow for few classes."""
    return torch.log_softmax(outputs.detach().transpose(1, 2).contiguous(), 1)


def _weighted(targets: Tensor, weights: Tensor | None) -> Tensor:
    shares = targets.transpose(1, 2)
    return shares if weights is None else shares * weights[:, None]


def _means(log_probabilities: Tensor, weights_of_targets: Tensor | None) -> Tensor:
    terms = log_probabilities if weights_of_targets is None else log_probabilities * weights_of_targets
    return terms.sum((1, 2)).div_(-terms.shape[2])
