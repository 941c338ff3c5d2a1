"""What a run learns from: arrays split once, by a seed of their own, into training, validation and test.

A data set is a function that returns its raw `Arrays`; `split` makes of them what a run can use, and its
keywords can be set in every data set's yaml.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweepwise.schema import Range
from sweepwise.seed import stream

OPEN_UNIT = Range(0, 1, open_low=True, open_high=True)


@dataclass(frozen=True, eq=False)
class Arrays:
    """A data set as it comes, before it is split and scaled.

    Attributes:
        name: what a report calls it.
        x: (examples, *features), real; images as (examples, channels, height, width).
        y: (examples,), classes 0..classes-1 or real targets.
        classes: number of classes; 0 for regression.
        x_test: (test examples, *features), the set's own test part; goes with `y_test`.
        y_test: (test examples,).
    """

    name: str
    x: NDArray[np.generic]
    y: NDArray[np.generic]
    classes: int
    x_test: NDArray[np.generic] | None = None
    y_test: NDArray[np.generic] | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """The examples of one part.

    Attributes:
        x: (examples, *features), float32, contiguous.
        y: (examples,), int64 classes or float32 targets.
    """

    x: Tensor
    y: Tensor

    def to(self, device: torch.device | str) -> "Part":
        """The same examples on `device`."""
        return Part(self.x.to(device), self.y.to(device))


@dataclass(frozen=True, eq=False)
class Data:
    """A data set, split and scaled.

    Attributes:
        name: what a report calls it.
        train: what is learned from; the only part that steers the scaling.
        validation: what choices are made on.
        test: what the last word is measured on.
        batch_size: examples a step, at least 1.
        classes: number of classes; 0 for regression.
        target_mean: mean of the training targets in their original units; 0 for classification.
        target_std: their standard deviation, so that y * target_std + target_mean has the original units;
            1 for classification.
        sha256: hex digest of the raw arrays, before split and scaling.
        shuffle: whether each epoch has an order of its own.
    """

    name: str
    train: Part
    validation: Part
    test: Part
    batch_size: int
    classes: int
    target_mean: float
    target_std: float
    sha256: str
    shuffle: bool = True

    @property
    def features(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.train.x.shape[1:])

    @property
    def outputs(self) -> int:
        """Numbers that a model returns for one example."""
        return max(self.classes, 1)

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch; the last may be smaller."""
        return -(-len(self.train.y) // self.batch_size)

    def sample(self, examples: int) -> tuple[Tensor, Tensor]:
        """The first examples of the training part, which the split has put in random order: x and y."""
        return self.train.x[:examples], self.train.y[:examples]

    def order(self, seed: int, epoch: int) -> Tensor:
        """The order of the training examples in one epoch, the same whenever and wherever it is asked for.

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


def split(
    arrays: Arrays,
    *,
    batch_size: Annotated[int, Range(1)] = 64,
    split_seed: Annotated[int, Range(0)] = 0,
    validation: Annotated[float, OPEN_UNIT] = 0.2,
    test: Annotated[float, OPEN_UNIT] = 0.2,
    standardize: bool = True,
    shuffle: bool = True,
) -> Data:
    """Splits raw arrays at random and scales them by what the training part alone tells.

    Features become (x - mean) / std, each by itself, over the training examples; a feature that is constant
    there is only centred. What has channels (examples, channels, ...) is scaled channel by channel.
    Regression targets are always scaled so, whatever `standardize` says.

    Args:
        arrays: the set as it comes.
        batch_size: examples a step, from 1 to the number of training examples.
        split_seed: at least 0; the same seed is the same split. Not the training seed, so that runs of
            different seeds are measured on the same examples.
        validation: fraction of all examples, in (0, 1).
        test: fraction of all examples, in (0, 1). Does not apply where the set brings its own test part.
        standardize: whether to scale the features.
        shuffle: whether the training examples come in a new order each epoch, by `seed.data`; else always in
            the one that the split has given them.

    Returns:
        The data, on the CPU.

    Raises:
        ValueError: a fraction or the batch size out of range, or a part without examples.
    """
    x, y, classes = np.asarray(arrays.x), np.asarray(arrays.y), arrays.classes
    raw = [x, y]
    order = _permutation(len(x), split_seed)
    if arrays.x_test is None or arrays.y_test is None:
        sizes = _sizes(len(x), {"data.validation": validation, "data.test": test})
    else:
        raw += [np.asarray(arrays.x_test), np.asarray(arrays.y_test)]
        order = np.concatenate([order, len(x) + np.arange(len(arrays.x_test))])
        sizes = _sizes(len(order), {"data.validation": validation}, tested=len(arrays.x_test))
        x, y = np.concatenate(raw[0::2]), np.concatenate(raw[1::2])
    if batch_size < 1:
        raise ValueError(f"data.batch_size={batch_size}: must be at least 1")
    if batch_size > sizes[0]:
        raise ValueError(f"data.batch_size={batch_size}: must not exceed the {sizes[0]} training examples")

    rows = np.split(order, np.cumsum(sizes[:2]))
    target_mean, target_std = 0.0, 1.0
    if standardize:
        mean, std = _feature_moments(x[rows[0]])
        x = (x - mean) / std
    if classes == 0:
        target_mean, target_std = map(float, _moments(y[rows[0]]))
        y = (y - target_mean) / target_std
    x, y = x.astype(np.float32), y.astype(np.float32 if classes == 0 else np.int64)
    train, held, last = (Part(torch.from_numpy(x[part]), torch.from_numpy(y[part])) for part in rows)
    return Data(
        arrays.name,
        train,
        held,
        last,
        batch_size,
        classes,
        target_mean,
        target_std,
        _fingerprint(raw),
        shuffle,
    )


def _feature_moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moments of each feature, or of each channel of (examples, channels, ...)."""
    if x.ndim < 3:
        return _moments(x)
    channels = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    mean, std = (values.reshape(-1, *[1] * (x.ndim - 2)) for values in _moments(channels))
    return mean, std


def _sizes(examples: int, fractions: dict[str, float], tested: int = 0) -> tuple[int, int, int]:
    """Numbers of training, validation and test examples; `tested` of them are the set's own test part."""
    for key, fraction in fractions.items():
        if fraction not in OPEN_UNIT:
            raise ValueError(f"{key}={fraction}: must be in {OPEN_UNIT}")
    # The cumulated fractions are rounded, so that the three sizes always add up.
    held_out = tested + round(sum(fractions.values()) * examples)
    tested += round(fractions.get("data.test", 0.0) * examples)
    sizes = examples - held_out, held_out - tested, tested
    if min(sizes) < 1:
        raise ValueError(
            ", ".join(f"{key}={fraction}" for key, fraction in fractions.items())
            + f": must leave at least 1 of the {examples} examples to each of training, validation and test"
        )
    return sizes


def _permutation(size: int, seed: int) -> np.ndarray:
    # Numpy keeps the raw stream of a bit generator for ever, but not what Generator.permutation makes of it.
    # No other uses this stream: default_rng(seed)'s would sort a set that was generated with it.
    stream = np.random.SeedSequence([int.from_bytes(b"split"), seed])
    return np.argsort(np.random.PCG64(stream).random_raw(size), kind="stable")


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over the examples; 1 for the deviation of what is constant."""
    # Equal numbers can have a deviation of 1e-17 by rounding, so constancy is asked of the numbers.
    std = np.where(values.min(0) == values.max(0), 1.0, values.std(0, dtype=np.float64))
    return values.mean(0, dtype=np.float64), std


def _fingerprint(arrays: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
