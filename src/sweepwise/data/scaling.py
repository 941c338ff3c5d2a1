"""Features scaled by what the training examples tell, a bounded piece of them at a time."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PIECE_BYTES = 2**21  # of float64, worked on at once: what stays in a core's cache


@dataclass(frozen=True, eq=False)
class Scaling:
    """(x - mean) / std, in float64; by default x as it is.

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
        return ((x - self.mean) / self.std).astype(np.float32)

    def rows(self, x: np.ndarray, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scales some examples of x into an array of their own: (rows, *features)."""
        scaled = np.empty((len(rows), *x.shape[1:]), np.float32)
        together = _together(x)
        for start in range(0, len(rows), together):
            scaled[start : start + together] = self(x[rows[start : start + together]])
        return scaled


UNSCALED = Scaling(np.zeros(()), np.ones(()))


def standardizing(x: np.ndarray, rows: NDArray[np.int64]) -> Scaling:
    """Scales each feature, or each channel of (examples, channels, ...), to mean 0, deviation 1 over `rows`.

    Raises:
        ValueError: some of these numbers are not finite.

    Example:
        >>> scaling = standardizing(np.array([[1.0], [3.0], [100.0]]), np.array([0, 1]))
        >>> scaling.mean.tolist(), scaling.std.tolist()
        ([2.0], [1.0])
    """
    with np.errstate(invalid="ignore"):  # it is told below
        mean, std = moments(x, rows)
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        which = np.flatnonzero(~(np.isfinite(mean) & np.isfinite(std)))
        what = "channel" if x.ndim > 2 else "feature"
        raise ValueError(f"data: {what} {which[0]} has values that are not finite; they cannot be scaled")
    over = (-1, *[1] * (x.ndim - 2)) if x.ndim > 2 else mean.shape
    return Scaling(mean.reshape(over), std.reshape(over))


def moments(x: np.ndarray, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Mean and standard deviation over some examples, of each feature or channel; 1 for what is constant.

    Of so few examples that they are one piece, these are numpy's `mean` and `std`.

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
    # Equal numbers can have a deviation of 1e-17 by rounding, so constancy is asked of the numbers.
    constant = reduce(np.minimum, lows) == reduce(np.maximum, highs)
    return mean.squeeze(axis), np.where(constant, 1.0, np.sqrt(squares / count))


def _pieces(x: np.ndarray, rows: NDArray[np.int64]) -> Iterator[np.ndarray]:
    """The examples, some at a time: (examples, features), or images as (channels, pixels)."""
    together = _together(x)
    if len(rows) > together:
        rows = np.sort(rows)  # a file is read from its beginning to its end
    for start in range(0, len(rows), together):
        piece = x[rows[start : start + together]]
        yield np.moveaxis(piece, 1, 0).reshape(x.shape[1], -1) if x.ndim > 2 else piece


def _together(x: np.ndarray) -> int:
    return max(1, PIECE_BYTES // (8 * max(1, math.prod(x.shape[1:]))))
