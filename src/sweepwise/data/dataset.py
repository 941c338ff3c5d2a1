"""Data sets: raw `Arrays`, and `Data`, which is split into training, validation and test part.

A data set is a function that returns `Arrays`; `split` turns them into `Data`. The keywords of `split` can be
set in the yaml of every data set.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweepwise.data.part import Part
from sweepwise.data.stored import StoredPart
from sweepwise.seed import stream


@dataclass(frozen=True, eq=False)
class Arrays:
    """A raw data set, before it is split and scaled.

    Attributes:
        name: for reports.
        x: (examples, *features), real; images as (examples, channels, height, width). A `np.memmap` stays in
            its file and is read batch by batch.
        y: (examples,), classes 0..classes-1 or real targets.
        classes: number of classes; 0 for regression.
        x_test: (test examples, *features), the set's own test part; goes with `y_test`.
        y_test: (test examples,).
        notes: what the user should know of how it was read.

    Example:
        >>> arrays = Arrays("two", np.array([[0.0], [1.0]]), np.array([0, 1]), classes=2)
        >>> arrays.x_test is None, arrays.notes
        (True, ())
    """

    name: str
    x: NDArray[np.generic]
    y: NDArray[np.generic]
    classes: int
    x_test: NDArray[np.generic] | None = None
    y_test: NDArray[np.generic] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Data:
    """A data set, split and scaled.

    Attributes:
        name: for reports.
        train: the part that is trained on; the scaling depends on it alone.
        validation: the part by which early stopping and the best weights are chosen.
        test: the part for the final metrics.
        batch_size: examples of a step, >= 1.
        classes: number of classes; 0 for regression.
        target_mean: mean of the training targets in their original units; 0 for classification.
        target_std: their standard deviation, so that y * target_std + target_mean has the original units;
            1 for classification.
        sha256: hex digest of the raw arrays, before split and scaling.
        shuffle: whether each epoch has a new order.
        notes: what the user should know before a training.

    Example:
        >>> from sweepwise import Arrays, split
        >>> data = split(Arrays("ten", np.arange(10.0)[:, None], np.arange(10) % 2, 2), batch_size=4)
        >>> len(data.train.y), data.steps_per_epoch, data.features, data.outputs
        (6, 2, (1,), 2)
    """

    name: str
    train: Part | StoredPart
    validation: Part | StoredPart
    test: Part | StoredPart
    batch_size: int
    classes: int
    target_mean: float
    target_std: float
    sha256: str
    shuffle: bool = True
    notes: tuple[str, ...] = ()

    @property
    def features(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.train.features

    @property
    def outputs(self) -> int:
        """The number of outputs of a model for one example."""
        return max(self.classes, 1)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; the last may be smaller."""
        return -(-len(self.train.y) // self.batch_size)

    def sample(self, examples: int) -> tuple[Tensor, Tensor]:
        """The first examples of the training part, which the split has put in random order: x and y."""
        return self.train.split(examples)[0]

    def order(self, seed: int, epoch: int) -> Tensor:
        """The order of the training examples in an epoch; it depends on its arguments alone.

        Args:
            seed: of the data order, >= 0.
            epoch: counted from 0.

        Returns:
            (training examples,) a permutation, int64, on the CPU; without `shuffle` the stored order.
        """
        if not self.shuffle:
            return torch.arange(len(self.train.y))
        generator = torch.Generator().manual_seed(stream(seed, epoch))
        return torch.randperm(len(self.train.y), generator=generator)

    def to(self, device: torch.device | str) -> "Data":
        """The same data on `device`; `order` stays on the CPU."""
        train, validation, test = (part.to(device) for part in (self.train, self.validation, self.test))
        return replace(self, train=train, validation=validation, test=test)
