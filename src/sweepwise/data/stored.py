"""A part of a data set whose features stay on disk."""

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweepwise.data.scaling import Scaling


@dataclass(frozen=True, eq=False)
class StoredPart:
    """The examples of one part, whose features are read from a file and scaled when they are used.

    Attributes:
        x: all examples of the file, mapped into memory, (stored examples, *features), of any real type.
        rows: indices of this part's examples in the file, (examples,).
        scaling: of the features.
        y: (examples,), int64 classes or float32 targets; on the learner's device.

    Example:
        >>> from sweepwise.data.scaling import Scaling
        >>> scaling = Scaling(mean=np.array([1.0]), std=np.array([2.0]))
        >>> part = StoredPart(np.array([[1], [3], [5]]), np.array([2, 0]), scaling, torch.tensor([1, 0]))
        >>> part.take(torch.tensor([0]))  # row 2 of the file: (5 - 1) / 2
        (tensor([[2.]]), tensor([1]))
    """

    x: "np.memmap[Any, Any]"
    rows: NDArray[np.int64]
    scaling: Scaling
    y: Tensor

    @property
    def features(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.x.shape[1:])

    def take(self, index: Tensor, into: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `Part.take`; x is float32."""
        x = torch.from_numpy(self.scaling.rows(self.x, self.rows[index.numpy(force=True)]))
        return x.to(self.y.device) if into is None else into.copy_(x), self.y.index_select(0, index)

    def split(self, size: int) -> Sequence[tuple[Tensor, Tensor]]:
        """All examples in order, `size` at a time; each batch is read when it is used."""
        return _Batches(self, size)

    def to(self, device: torch.device | str) -> "StoredPart":
        """The same examples, which are moved to `device` when they are read."""
        y = self.y.to(device)
        return self if y is self.y else replace(self, y=y)

    def __getstate__(self) -> dict[str, Any]:
        """Pickles the path instead of the examples: a new process opens the file again."""
        state = dict(vars(self))
        if isinstance(self.x.base, mmap.mmap):  # of the whole file, not of a slice
            state["x"] = self.x.filename, self.x.dtype, self.x.offset, self.x.shape
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["x"], tuple):
            path, dtype, offset, shape = state["x"]
            state["x"] = np.memmap(path, dtype, "r", offset, shape)
        vars(self).update(state)


class _Batches(Sequence[tuple[Tensor, Tensor]]):
    def __init__(self, part: StoredPart, size: int) -> None:
        self._part, self._size = part, size

    def __len__(self) -> int:
        return math.ceil(len(self._part.y) / self._size)

    def __getitem__(self, index: Any) -> Any:
        start = range(0, len(self._part.y), self._size)[index]
        stop = min(start + self._size, len(self._part.y))
        return self._part.take(torch.arange(start, stop, device=self._part.y.device))
