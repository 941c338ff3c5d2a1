"""Standardises features by mean and deviation of the training examples, in pieces of limited memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EQUAL = 4 * np.finfo(np.float64).eps  # numbers that differ by this share are equal but for rounding
PIECE_BYTES = 2**21  # of float64 in a piece, so that it stays in the cache


@dataclass(frozen=True, eq=False)
class Scaling:
    """Computes (x - mean) / std in float64.

    Attributes:
        mean: of each feature, or of each channel as (channels, 1, ...).
        std: the same shape.

    Example:
        >>> Scaling(mean=np.array([1.0]), std=np.array([2.0]))(np.array([[5.0]])).tolist()
        [[2.0]]
    """

    mean: Floats
    std: Floats

    def __call__(self, x: np.ndarray) -> NDArray[np.float32]:
        """Scales examples, (examples, *features)."""
        with np.errstate(over="ignore"):  # who scales checks what comes out
            return ((x - self.mean) / self.std).astype(np.float32)

    def rows(self, x: np.ndarray, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scales some examples of x into a new array, (rows, *features)."""
        scaled = np.empty((len(rows), *x.shape[1:]), np.float32)
        size = _examples_per_piece(x)
        for start in range(0, len(rows), size):
            scaled[start : start + size] = self(x[rows[start : start + size]])
        return scaled


UNSCALED = Scaling(np.zeros(()), np.ones(()))


def standardizing(x: np.ndarray, rows: NDArray[np.int64]) -> Scaling:
    """The scaling of each feature, or channel (axis 1 of 3 or more), to mean 0 and deviation 1 over `rows`.

    Raises:
        ValueError: a value in these rows is not finite.

    Example:
        >>> scaling = standardizing(np.array([[1.0], [3.0], [100.0]]), np.array([0, 1]))
        >>> scaling.mean.tolist(), scaling.std.tolist()
        ([2.0], [1.0])
    """
    with np.errstate(invalid="ignore", over="ignore"):  # the error below says it
        mean, std = moments(x, rows)
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        which = np.flatnonzero(~(np.isfinite(mean) & np.isfinite(std)))
        what = "channel" if x.ndim > 2 else "feature"
        raise ValueError(f"data: {what} {which[0]} has values that are not finite; correct or remove them")
    over = (-1, *[1] * (x.ndim - 2)) if x.ndim > 2 else mean.shape
    return Scaling(mean.reshape(over), std.reshape(over))


def moments(x: np.ndarray, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each feature or channel over some examples; 1 if it is constant.

    What differs by rounding alone is constant.

    For examples that fit into one piece, these are numpy's `mean` and `std`.

    Example:
        >>> mean, std = moments(np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([0, 1]))
        >>> mean.tolist(), std.tolist()
        ([2.0, 5.0], [1.0, 1.0])
    """
    count, axis = len(rows) * math.prod(x.shape[2:]), 1 if x.ndim > 2 else 0
    pieces = [
        (p.sum(axis, dtype=np.float64, keepdims=True), p.min(axis), p.max(axis)) for p in _pieces(x, rows)
    ]
    sums, lows, highs = zip(*pieces, strict=True)
    mean = reduce(np.add, sums) / count
    squares = reduce(np.add, (np.square(piece - mean).sum(axis) for piece in _pieces(x, rows)))
    # By rounding, equal numbers can have a deviation of 1e-17, which would make that noise a feature.
    low, high = reduce(np.minimum, lows).astype(np.float64), reduce(np.maximum, highs).astype(np.float64)
    constant = high - low <= EQUAL * np.maximum(np.abs(low), np.abs(high))
    return mean.squeeze(axis), np.where(constant, 1.0, np.sqrt(squares / count))


def _pieces(x: np.ndarray, rows: NDArray[np.int64]) -> Iterator[np.ndarray]:
    """The examples in pieces: (examples, features), or images as (channels, pixels)."""
    size = _examples_per_piece(x)
    if len(rows) > size:
        rows = np.sort(rows)  # a file is read from its beginning to its end
    for start in range(0, len(rows), size):
        piece = x[rows[start : start + size]]
        yield np.moveaxis(piece, 1, 0).reshape(x.shape[1], -1) if x.ndim > 2 else piece


def _examples_per_piece(x: np.ndarray) -> int:
    return max(1, PIECE_BYTES // (8 * max(1, math.prod(x.shape[1:]))))
