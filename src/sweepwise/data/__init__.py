"""What a run learns from: arrays split once, by a seed of their own, into training, validation and test.

A data set is a function that loads its raw arrays and returns `split(...)` of them.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from sweepwise.schema import Range
from sweepwise.seed import stream

OPEN_UNIT = Range(0, 1, open_low=True, open_high=True)

BatchSize = Annotated[int, Range(1)]
SplitSeed = Annotated[int, Range(0)]
Fraction = Annotated[float, OPEN_UNIT]


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

    @property
    def features(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.train.x.shape[1:])

    @property
    def outputs(self) -> int:
        """Numbers that a model returns for one example."""
        return max(self.classes, 1)

    def order(self, seed: int, epoch: int) -> Tensor:
        """The order of the training examples in one epoch, the same whenever and wherever it is asked for.

        Args:
            seed: of the data order, >= 0.
            epoch: counted from 0.

        Returns:
            (training examples,) a permutation, int64, on the CPU.
        """
        generator = torch.Generator().manual_seed(stream(seed, epoch))
        return torch.randperm(len(self.train.y), generator=generator)

    def to(self, device: torch.device | str) -> "Data":
        """The same data on `device`; `order` stays on the CPU."""
        train, validation, test = (part.to(device) for part in (self.train, self.validation, self.test))
        return replace(self, train=train, validation=validation, test=test)


def split(
    x: np.ndarray,
    y: np.ndarray,
    *,
    name: str,
    batch_size: int,
    split_seed: int,
    validation: float,
    standardize: bool,
    classes: int,
    test: float = 0.2,
    x_test: np.ndarray | None = None,
    y_test: np.ndarray | None = None,
) -> Data:
    """Splits raw arrays at random and scales them by what the training part alone tells.

    Features become (x - mean) / std, each by itself, over the training examples; a feature that is constant
    there is only centred. Regression targets are always scaled so, whatever `standardize` says.

    Args:
        x: (examples, *features).
        y: (examples,), classes 0..classes-1 or real targets.
        name: what a report calls the set.
        batch_size: examples a step, from 1 to the number of training examples.
        split_seed: at least 0; the same seed is the same split. Not the training seed, so that runs of
            different seeds are measured on the same examples.
        validation: fraction of all examples, in (0, 1).
        standardize: whether to scale the features.
        classes: number of classes; 0 for regression.
        test: fraction of all examples, in (0, 1). Does not apply where the set brings its own test part.
        x_test: (test examples, *features), the set's own test part; goes with `y_test`.
        y_test: (test examples,).

    Returns:
        The data, on the CPU.

    Raises:
        ValueError: a fraction or the batch size out of range, or a part without examples.
    """
    raw = [np.asarray(x), np.asarray(y)]
    order = _permutation(len(x), split_seed)
    if x_test is None or y_test is None:
        sizes = _sizes(len(x), {"data.validation": validation, "data.test": test})
        x, y = raw
    else:
        raw += [np.asarray(x_test), np.asarray(y_test)]
        order = np.concatenate([order, len(x) + np.arange(len(x_test))])
        sizes = _sizes(len(order), {"data.validation": validation}, tested=len(x_test))
        x, y = np.concatenate(raw[0::2]), np.concatenate(raw[1::2])
    if batch_size < 1:
        raise ValueError(f"data.batch_size={batch_size}: must be at least 1")
    if batch_size > sizes[0]:
        raise ValueError(f"data.batch_size={batch_size}: must not exceed the {sizes[0]} training examples")

    rows = np.split(order, np.cumsum(sizes[:2]))
    target_mean, target_std = 0.0, 1.0
    if standardize:
        mean, std = _moments(x[rows[0]])
        x = (x - mean) / std
    if classes == 0:
        target_mean, target_std = map(float, _moments(y[rows[0]]))
        y = (y - target_mean) / target_std
    x, y = x.astype(np.float32), y.astype(np.float32 if classes == 0 else np.int64)
    train, held, last = (Part(torch.from_numpy(x[part]), torch.from_numpy(y[part])) for part in rows)
    return Data(name, train, held, last, batch_size, classes, target_mean, target_std, _fingerprint(raw))


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
    return np.argsort(np.random.PCG64(seed).random_raw(size), kind="stable")


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
