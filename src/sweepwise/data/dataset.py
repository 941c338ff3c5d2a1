"""Data sets: raw `Arrays`, and `Data`, which is split into training, validation and test part.

A data set is a function that returns `Arrays`; `split` turns them into `Data`. The keywords of `split` can be
set in the yaml of every data set.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweepwise.config.ranges import Range
from sweepwise.config.schema import plain_arguments
from sweepwise.data.filling import Encoding
from sweepwise.data.part import Part
from sweepwise.data.preparation import Label, Preparation
from sweepwise.data.raw import array, refuse_features, refuse_targets
from sweepwise.data.reading import NUMBERS, Reading
from sweepwise.data.stored import StoredPart
from sweepwise.errors import UsageError
from sweepwise.seed import stream


@dataclass(frozen=True, eq=False)
class Arrays:
    """A raw data set, before it is split and scaled. Tensors and lists become arrays.

    Attributes:
        name: for reports.
        x: (examples, *features), real; images as (examples, channels, height, width). A `np.memmap` stays in
            its file and is read batch by batch.
        y: (examples,), classes 0..classes-1 or real targets; finite.
        classes: number of classes; 0 for regression.
        x_test: (test examples, *features), the set's own test part; goes with `y_test`.
        y_test: (test examples,).
        notes: what the user should know of how it was read.
        parts: (examples,), the part of each example: 0 training, 1 validation, 2 test; None: `split` decides.
        encoding: what the features of a table are, which may be NaN then; None: they are numbers, all there.
        labels: what each class is called, texts or numbers; (): by its number.
        reading: how new rows of this kind are read.

    Raises:
        UsageError: the arrays are not of these shapes and types, or do not fit each other.

    Example:
        >>> arrays = Arrays("two", np.array([[0.0], [1.0]]), np.array([0, 1]), classes=2)
        >>> arrays.x_test is None, arrays.notes
        (True, ())
    """

    name: str
    x: NDArray[np.generic]
    y: NDArray[np.generic]
    classes: Annotated[int, Range(0)]
    x_test: NDArray[np.generic] | None = None
    y_test: NDArray[np.generic] | None = None
    notes: tuple[str, ...] = ()
    encoding: Encoding | None = None
    parts: NDArray[np.int64] | None = None
    labels: tuple[Label, ...] = ()
    reading: Reading = NUMBERS

    def __post_init__(self) -> None:
        _make_plain(self, "classes")
        try:
            if (self.x_test is None) != (self.y_test is None):
                raise ValueError("x_test and y_test: must be given together")
            self._take_labels()
            for x, y in (("x", "y"), ("x_test", "y_test")):
                if getattr(self, y) is not None or y == "y":
                    self._take(x, array(x, getattr(self, x)), y, array(y, getattr(self, y)))
        except ValueError as error:
            raise UsageError([f"data {self.name}: {error}"]) from error

    def _take_labels(self) -> None:
        labels = tuple(label.item() if isinstance(label, np.generic) else label for label in self.labels)
        if labels and len(labels) != self.classes:
            raise ValueError(f"labels: must name each of the {self.classes} classes, and are {len(labels)}")
        if not all(isinstance(label, (str, bool, int, float)) for label in labels):
            raise ValueError("labels: must be texts or numbers")
        object.__setattr__(self, "labels", labels)

    def _take(self, x_name: str, x: np.ndarray, y_name: str, y: np.ndarray) -> None:
        refuse_features(x_name, x)
        refuse_targets(y_name, y, len(x), self.classes)
        object.__setattr__(self, x_name, x)
        # The digits and the range of a half are too few for the scaling.
        object.__setattr__(self, y_name, y.astype(np.float64) if y.dtype == np.float16 else y)
        if x.shape[1:] != self.x.shape[1:]:
            raise ValueError(
                f"{x_name}: must have examples of the shape {self.x.shape[1:]}, not {x.shape[1:]}"
            )


@dataclass(frozen=True, eq=False)
class Data:
    """A data set, split and scaled.

    Attributes:
        name: for reports.
        train: the part that is trained on; the scaling depends on it alone.
        validation: the part by which early stopping and the best weights are chosen; may be empty.
        test: the part for the final metrics; may be empty.
        batch_size: examples of a step, >= 1.
        classes: number of classes; 0 for regression.
        target_mean: mean of the training targets in their original units; 0 for classification.
        target_std: their standard deviation, so that y * target_std + target_mean has the original units;
            1 for classification.
        sha256: hex digest of the raw arrays, before split and scaling.
        shuffle: whether each epoch has a new order.
        notes: what the user should know before a training.
        preparation: how raw rows have become features; None: they have not by `split`.

    Raises:
        UsageError: a part does not have one target for each example, of the right kind.

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
    batch_size: Annotated[int, Range(1)]
    classes: Annotated[int, Range(0)]
    target_mean: float
    target_std: float
    sha256: str
    shuffle: bool = True
    notes: tuple[str, ...] = ()
    preparation: Preparation | None = None

    def __post_init__(self) -> None:
        _make_plain(self, "batch_size", "classes", "shuffle")
        try:
            for name in ("train", "validation", "test"):
                part = getattr(self, name)
                examples = len(part.rows if isinstance(part, StoredPart) else part.x)
                if not part.y.is_meta:  # there, tensors have no values
                    refuse_targets(f"{name}.y", part.y.numpy(force=True), examples, self.classes)
        except ValueError as error:
            raise UsageError([f"data {self.name}: {error}"]) from error

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
        x, y = self.train.split(examples)[0]
        return x.clone(), y.clone()  # a model may change its input

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
        """The same data on `device`, these themselves if they are there; `order` stays on the CPU."""
        train, validation, test = (part.to(device) for part in (self.train, self.validation, self.test))
        if train is self.train and validation is self.validation and test is self.test:
            return self
        return replace(self, train=train, validation=validation, test=test)


def _make_plain(one: Arrays | Data, *names: str) -> None:
    """Replaces numbers of numpy and torch by Python's.

    Raises:
        UsageError: one does not have the type or range of its annotation.
    """
    faults: list[str] = []
    for name, value in plain_arguments(
        "data", type(one), {n: getattr(one, n) for n in names}, faults
    ).items():
        object.__setattr__(one, name, value)
    if faults:
        raise UsageError(faults)
