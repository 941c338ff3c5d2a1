"""A part of a data set in memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Part:
    """The examples of the training, validation or test part, in memory.

    Attributes:
        x: (examples, *features), float32, contiguous.
        y: (examples,), int64 classes or float32 targets.

    Example:
        >>> part = Part(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([0, 1, 0]))
        >>> part.take(torch.tensor([2, 1]))
        (tensor([[3.],
                [2.]]), tensor([0, 1]))
    """

    x: Tensor
    y: Tensor

    @property
    def features(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.x.shape[1:])

    def take(self, index: Tensor, into: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Some examples of the part: x (index, *features), y (index,).

        Args:
            index: of the examples in the part.
            into: memory for x, of its shape and type; None: new memory.
        """
        return torch.index_select(self.x, 0, index, out=into), self.y.index_select(0, index)

    def split(self, size: int) -> Sequence[tuple[Tensor, Tensor]]:
        """All examples in order, `size` at a time."""
        return list(zip(self.x.split(size), self.y.split(size), strict=True))

    def to(self, device: torch.device | str) -> "Part":
        """The same examples on `device`; the part itself, if it is there."""
        x, y = self.x.to(device), self.y.to(device)
        return self if x is self.x and y is self.y else Part(x, y)
