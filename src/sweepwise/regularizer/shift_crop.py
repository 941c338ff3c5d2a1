"""Random shifts: crops of a padded image."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sweepwise.config.ranges import Range
from sweepwise.regularizer.base import Regularizer, refuse_other_than_images

_PAD = {"zeros": "constant", "reflect": "reflect"}  # torch.nn.functional.pad's names


class ShiftCrop(Regularizer):
    """Pads each image on all sides and crops it at random to its original size.

    This shifts each image by whole pixels, from -padding to padding in each direction, with equal
    probability.

    Args:
        padding: pixels, >= 0, less than the image's shorter side.
        padding_mode: values beyond the border: zeros (the mean of standardised data), or the image mirrored
            at its outermost pixels.

    Source: He, Zhang, Ren & Sun, Deep Residual Learning, arXiv:1512.03385, section 4.2 (padding 4, zeros).

    Example:
        >>> images = torch.zeros(32, 1, 3, 3)
        >>> images[..., 1, 1] = 1  # stays visible after a shift by one pixel
        >>> shifted, _ = ShiftCrop(padding=1).examples(images, torch.eye(32), torch.Generator())
        >>> shifted.sum((1, 2, 3)).unique().tolist(), (shifted.sum(0) > 0).sum().item() > 1
        ([1.0], True)
    """

    strength = "_padding"

    def __init__(
        self,
        *,
        padding: Annotated[int, Range(0)] = 1,
        padding_mode: Literal["zeros", "reflect"] = "zeros",
    ) -> None:
        self._padding = padding
        self._mode = _PAD[padding_mode]

    def prepare_(self, model: nn.Module, features: Sequence[int], classes: int) -> None:
        """Checks the data; changes nothing.

        Raises:
            ValueError: the examples are not images, or no larger than the padding.
        """
        refuse_other_than_images("shift_crop", features)
        if self._padding >= min(features[1:]):
            raise ValueError(
                f"regularizer.shift_crop.padding={self._padding}: must be less than {min(features[1:])}, the "
                f"shorter side of images of {features[1]} x {features[2]} pixels"
            )

    def examples(self, x: Tensor, targets: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Crops the padded images, (batch, channels, height, width)."""
        images, channels, height, width = x.shape
        padded = functional.pad(x, (self._padding,) * 4, mode=self._mode)
        rows, columns = (self._window(images, side, noise) for side in (height, width))
        pixels = (rows[:, :, None] * padded.shape[3] + columns[:, None, :]).view(images, 1, -1)
        cropped = padded.view(images, channels, -1).gather(2, pixels.expand(-1, channels, -1))
        return cropped.view(x.shape), targets

    def _window(self, images: int, side: int, noise: torch.Generator) -> Tensor:
        """The rows or columns that each crop keeps of a padded image, (images, side)."""
        first = torch.randint(2 * self._padding + 1, (images, 1), device=noise.device, generator=noise)
        return first + torch.arange(side, device=noise.device)
