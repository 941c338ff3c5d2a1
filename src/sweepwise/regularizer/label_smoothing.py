"""Label smoothing."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from sweepwise.config.ranges import Range
from sweepwise.regularizer.base import Regularizer


class LabelSmoothing(Regularizer):
    """Trains on (1 - smoothing) * target + smoothing / classes, torch's `label_smoothing`.

    The reported loss stays the plain cross-entropy; the difference is reported as the penalty. The trained
    loss cannot be less than the entropy of a smoothed target: 0.500288 for 0.1 and ten classes.

    Args:
        smoothing: share of the target that is spread evenly over all classes, in [0, 1).

    Source: Szegedy et al., Rethinking the Inception Architecture, arXiv:1512.00567, section 7.

    Example:
        >>> LabelSmoothing(smoothing=0.2).examples(torch.zeros(1, 1), torch.eye(4)[:1], torch.Generator())[1]
        tensor([[0.8500, 0.0500, 0.0500, 0.0500]])
    """

    strength = "_smoothing"

    def __init__(self, *, smoothing: Annotated[float, Range(0, 1, open_high=True)] = 0.1) -> None:
        self._smoothing = smoothing

    def prepare_(self, model: nn.Module, features: Sequence[int], classes: int) -> None:
        """Checks the data; changes nothing.

        Raises:
            ValueError: the targets are real numbers.
        """
        if not classes:
            raise ValueError(
                "regularizer=label_smoothing: must have classes to smooth, not the real targets of a "
                "regression; choose another regularizer or a data set with classes"
            )

    def examples(self, x: Tensor, targets: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Smooths the targets, (batch, classes)."""
        return x, targets * (1 - self._smoothing) + self._smoothing / targets.shape[1]
