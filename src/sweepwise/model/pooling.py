"""Pooling of a sequence of steps or tokens into one vector."""

from torch import Tensor, cat, nn


class Mean(nn.Module):
    """The mean over all steps."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, steps, width) -> (batch, width)."""
        return x.mean(1)


class Last(nn.Module):
    """The state after the last step that each direction has read.

    Args:
        width: of the forward direction; the rest of x is the backward one, which ends at the first step.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, steps, width or 2 width) -> (batch, width or 2 width)."""
        if x.shape[2] == self._width:
            return x[:, -1]
        forward, backward = x.split(self._width, 2)
        return cat((forward[:, -1], backward[:, 0]), 1)
