"""Random rotations."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from sweepwise.config.ranges import Range
from sweepwise.regularizer.base import Regularizer, refuse_other_than_images


class Rotation(Regularizer):
    """Rotates each image around its centre by an angle drawn uniformly from [-degrees, degrees].

    Values between pixels are interpolated bilinearly; values from outside the image are 0.

    Args:
        degrees: in [0, 180].

    Source: Simard, Steinkraus & Platt, Best Practices for Convolutional Neural Networks Applied to Visual
    Document Analysis, ICDAR 2003 (affine distortions).

    Example:
        >>> images = torch.rand(64, 1, 3, 3)
        >>> turned, _ = Rotation(degrees=180.0).examples(images, torch.eye(64), torch.Generator())
        >>> torch.allclose(turned[..., 1, 1], images[..., 1, 1], atol=1e-5), torch.allclose(turned, images)
        (True, False)
    """

    strength = "_degrees"

    def __init__(self, *, degrees: Annotated[float, Range(0, 180)] = 10.0) -> None:
        self._degrees = degrees

    def prepare_(self, model: nn.Module, features: Sequence[int], classes: int) -> None:
        """Checks the data; changes nothing.

        Raises:
            ValueError: the examples are not images.
        """
        refuse_other_than_images("rotation", features)

    def examples(self, x: Tensor, targets: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rotates the images, (batch, channels, height, width)."""
        if not self._degrees:
            return x, targets
        turn = 2 * torch.rand(len(x), dtype=x.dtype, device=x.device, generator=noise) - 1
        return rotated(x, turn * math.radians(self._degrees)), targets


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Images rotated counter-clockwise, with the first row on top.

    Args:
        x: (batch, channels, height, width).
        angles: (batch,) in radians.
    """
    height, width = x.shape[2:]
    cos, sin = angles.cos(), angles.sin()
    # affine_grid measures each direction in units of half its side, hence the ratio of the sides
    to_x = torch.stack([cos, -sin * (height / width), torch.zeros_like(cos)], 1)
    to_y = torch.stack([sin * (width / height), cos, torch.zeros_like(cos)], 1)
    grid = functional.affine_grid(torch.stack([to_x, to_y], 1), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)
