"""Cutout."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from sweepwise.config.ranges import Range
from sweepwise.regularizer.base import Regularizer, refuse_other_than_images


class Cutout(Regularizer):
    """Sets a square of each image to 0, the mean of standardised data, in all channels.

    Its centre is drawn uniformly from the pixels of each image; the square may extend beyond the image. A
    square of even size has one pixel more before its centre than after it.

    Args:
        size: side in pixels, >= 0, at most the image's shorter side.

    Source: DeVries & Taylor, Improved Regularization of Convolutional Neural Networks with Cutout,
    arXiv:1708.04552, section 3.

    Example:
        >>> images, targets = torch.ones(2, 3, 4, 4), torch.eye(2)
        >>> cut, _ = Cutout(size=1).examples(images, targets, torch.Generator())
        >>> (cut == 0).sum((2, 3)).tolist()  # pixels in each channel of each image
        [[1, 1, 1], [1, 1, 1]]
    """

    strength = "_size"

    def __init__(self, *, size: Annotated[int, Range(0)] = 4) -> None:
        self._size = size

    def prepare_(self, model: nn.Module, features: Sequence[int], classes: int) -> None:
        """Checks the data; changes nothing.

        Raises:
            ValueError: the examples are not images, or smaller than the square.
        """
        refuse_other_than_images("cutout", features)
        if self._size > min(features[1:]):
            raise ValueError(
                f"regularizer.cutout.size={self._size}: must be at most {min(features[1:])}, the shorter "
                f"side of images of {features[1]} x {features[2]} pixels"
            )

    def examples(self, x: Tensor, targets: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sets squares of the images to 0, (batch, channels, height, width)."""
        rows, columns = (self._span(len(x), side, noise) for side in x.shape[2:])
        return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0), targets

    def _span(self, images: int, side: int, noise: torch.Generator) -> Tensor:
        """Which rows or columns of each image lie in its square, (images, side)."""
        centres = torch.randint(side, (images, 1), device=noise.device, generator=noise)
        distance = torch.arange(side, device=noise.device) - centres + self._size // 2
        return (distance >= 0) & (distance < self._size)
