"""Horizontal flips."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from sweepwise.config.ranges import Range
from sweepwise.regularizer.base import Regularizer, refuse_other_than_images


class Flip(Regularizer):
    """Mirrors each image left to right with probability p.

    Args:
        p: probability, in [0, 1].

    Source: Krizhevsky, Sutskever & Hinton, ImageNet Classification with Deep Convolutional Neural Networks,
    NeurIPS 2012, section 4.1.

    Example:
        >>> image = torch.tensor([[[[1.0, 2.0, 3.0]]]])
        >>> Flip(p=1.0).examples(image, torch.eye(1), torch.Generator())[0].tolist()
        [[[[3.0, 2.0, 1.0]]]]
    """

    strength = "_p"

    def __init__(self, *, p: Annotated[float, Range(0, 1)] = 0.5) -> None:
        self._p = p

    def prepare_(self, model: nn.Module, features: Sequence[int], classes: int) -> None:
        """Checks the data; changes nothing.

        Raises:
            ValueError: the examples are not images.
        """
        refuse_other_than_images("flip", features)

    def examples(self, x: Tensor, targets: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mirrors some of the images, (batch, channels, height, width)."""
        mirrored = torch.rand((len(x), 1, 1, 1), device=x.device, generator=noise) < self._p
        return torch.where(mirrored, x.flip(3), x), targets
