"""Gaussian noise on the inputs."""

from typing import Annotated

import torch
from torch import Tensor

from sweepwise.config.ranges import Range
from sweepwise.regularizer.base import Regularizer


class InputNoise(Regularizer):
    """Trains on x + std * N(0, 1), with new noise for each value at each step.

    For small noise and squared error this equals a penalty of std^2 * |d output / d x|^2.

    Args:
        std: >= 0, in the units of the network's inputs: standard deviations of a feature, if the data are
            standardised.

    Source: Bishop, Training with Noise is Equivalent to Tikhonov Regularization, Neural Computation 7 (1995).

    Example:
        >>> noise = torch.Generator().manual_seed(0)
        >>> noisy, _ = InputNoise(std=3.0).examples(torch.ones(100, 100), torch.eye(100), noise)
        >>> round(noisy.mean().item(), 1), round(noisy.std().item(), 1)
        (1.0, 3.0)
    """

    strength = "_std"

    def __init__(self, *, std: Annotated[float, Range(0)] = 0.1) -> None:
        self._std = std

    def examples(self, x: Tensor, targets: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Adds the noise to the inputs."""
        added = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=noise)
        return added.mul_(self._std).add_(x), targets
