"""Mixup."""

from typing import Annotated

import torch
from torch import Tensor

from sweepwise.config.ranges import Range
from sweepwise.regularizer.base import Regularizer


class Mixup(Regularizer):
    """Trains on share * (x, y) + (1 - share) * (x', y'), where (x', y') are the batch in random order.

    share = max(lambda, 1 - lambda), lambda ~ Beta(alpha, alpha), one for each batch. Batches have
    the same distribution as with lambda itself, but reported loss and accuracy refer to the greater part of
    each mixture. Real targets are mixed in the same way.

    Args:
        alpha: >= 0; 0 mixes nothing, 1 draws lambda uniformly.

    Source: Zhang, Cisse, Dauphin & Lopez-Paz, mixup: Beyond Empirical Risk Minimization, arXiv:1710.09412.

    Example:
        >>> x, y = torch.arange(16.0)[:, None], torch.arange(16.0)
        >>> mixed, targets = Mixup(alpha=1.0).examples(x, y, torch.Generator().manual_seed(0))
        >>> torch.equal(mixed[:, 0], targets), round(targets.sum().item(), 3), torch.equal(targets, y)
        (True, 120.0, False)
    """

    strength = "_alpha"

    def __init__(self, *, alpha: Annotated[float, Range(0)] = 0.2) -> None:
        self._alpha = alpha

    def examples(self, x: Tensor, targets: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mixes the batch with itself."""
        if not self._alpha:
            return x, targets
        share = greater_share(self._alpha, noise)
        other = torch.randperm(len(x), device=x.device, generator=noise)
        return _mixed(x, other, share), _mixed(targets, other, share)


def greater_share(alpha: float, noise: torch.Generator) -> Tensor:
    """Draws max(lambda, 1 - lambda), lambda ~ Beta(alpha, alpha).

    lambda = g / (g + h), g and h ~ Gamma(alpha) = Gamma(alpha + 1) * exp(-Exp(1) / alpha): in logarithms this
    holds for a small alpha too, where Gamma(alpha) itself is 0 in floating point.

    Args:
        alpha: > 0.
        noise: generator to draw from.

    Returns:
        A float64 scalar in [0.5, 1], on the generator's device.

    Source: Marsaglia & Tsang, A Simple Method for Generating Gamma Variables, ACM TOMS 26 (2000).
    """
    shape = torch.full((2,), alpha + 1, dtype=torch.float64, device=noise.device)
    gammas = torch._standard_gamma(shape, generator=noise)
    waits = torch.empty_like(shape).exponential_(generator=noise)
    return gammas.log_().sub_(waits.div_(alpha)).softmax(0).amax()


def _mixed(values: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return torch.lerp(values.index_select(0, other), values, share.to(values.dtype))
