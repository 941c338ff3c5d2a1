"""Computes histograms and moments of many tensors at once.

The bin of a float32 is given by its upper twelve bits: sign, exponent and three bits of the mantissa. So
there are eight bins per octave (TensorFlow has seven), symmetric about zero, the same for every tensor and
step, and found by one shift.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_CELLS = 4096  # values of twelve bits: a magnitude m > 0 has cell m, its negative _NEGATIVE + m
_NEGATIVE = 2048
_INFINITE = 2040  # the first magnitude with the exponent of inf and NaN

# The cells in the order of the numbers, where cell 0 stands for zeros of both signs, and their right edges.
_ORDER = np.concatenate((np.arange(_CELLS - 1, _NEGATIVE, -1), np.arange(_NEGATIVE)))
_MAGNITUDES = (np.arange(1, _INFINITE, dtype=np.int32) << 20).view(np.float32).astype(np.float64)
_RIGHT = np.full(len(_ORDER), np.nan)  # where no finite number lies
_RIGHT[_NEGATIVE - _INFINITE : _NEGATIVE - 1] = -_MAGNITUDES[::-1]
_RIGHT[_NEGATIVE - 1 : _NEGATIVE - 1 + _INFINITE] = (*_MAGNITUDES, 2.0**128)

_PIECE = 2**15  # elements whose cells are counted at once; they stay in the cache
_SHORT = 2**11  # elements so few that numpy counts them faster than torch
_DOT = 2**13  # terms added in float32; few enough for accuracy, and for OpenBLAS to stay on one thread

_Summary = tuple[Sequence[float], np.ndarray, int]  # moments, elements in each cell, finite elements


@dataclass(frozen=True, eq=False, slots=True)
class Histogram:
    """Distribution of the finite elements of one tensor.

    Attributes:
        count: Number of finite elements.
        minimum: Smallest finite element, NaN if there is none.
        maximum: Largest finite element, NaN if there is none.
        total: Sum of the finite elements, right to 1e-6 of the sum of their magnitudes.
        squares: Sum of their squares, right to 1e-5 of it.
        variance: Population variance of the finite elements, right to 2e-5 of it; NaN if there is none.
        limits: (bins,) float64, right edges, increasing: a bin begins at the edge before it, the first one at
            `minimum`. A run of empty bins is merged into one. A number on an edge belongs to the bin farther
            from zero.
        counts: (bins,) int64, elements in each bin. Both arrays are empty if `count` is 0.
        nonfinite: Number of NaN and infinite elements.
        zeros: Number of elements below 2**-129 (1.5e-39) in magnitude, so zeros and the smallest denormals.
    """

    count: int
    minimum: float
    maximum: float
    total: float
    squares: float
    variance: float
    limits: np.ndarray
    counts: np.ndarray
    nonfinite: int
    zeros: int

    @property
    def mean(self) -> float:
        """Mean of the finite elements, NaN if there is none."""
        return self.total / self.count if self.count else math.nan

    @property
    def std(self) -> float:
        """Population standard deviation, right to 1e-5 of it, NaN if there is no finite element."""
        return math.sqrt(self.variance)

    @property
    def zero_share(self) -> float:
        """Share of the finite elements that are zero, in [0, 1], NaN if there is none."""
        return self.zeros / self.count if self.count else math.nan


@torch.no_grad()
@np.errstate(over="ignore", invalid="ignore")  # such moments are computed again in float64
def histograms(tensors: Mapping[str, Tensor]) -> dict[str, Histogram]:
    """Count and summarise all tensors on their device; two transfers, however many they are.

    Args:
        tensors: Real tensors of any shape, strides and dtype, all on one device. They are read as float32:
            a float64 beyond 3.4e38 is infinite.

    Returns:
        A histogram for each name, in the order given.
    """
    if not tensors:
        return {}
    parts = [(t if t.dtype == torch.float32 else t.float()).reshape(-1) for t in tensors.values()]
    summaries = _on_the_cpu(parts) if parts[0].is_cpu else _on_the_device(parts)
    columns = zip(tensors, parts, summaries, strict=True)
    return {name: _histogram(len(part), *summary) for name, part, summary in columns}


def _histogram(size: int, moments: Sequence[float], counts: np.ndarray, finite: int) -> Histogram:
    """A histogram whose limits are the edges of cells with elements, without the leftmost edge."""
    zeros = counts.item(0) + counts.item(_NEGATIVE)
    counts[0] = zeros
    filled = counts.astype(bool)
    filled = np.concatenate((filled[:_NEGATIVE:-1], filled[:_NEGATIVE]))  # in the order of the numbers
    bins = (filled[:-1] | filled[1:]).nonzero()[0][1:]
    low, high, total, squares, variance = moments
    limits, counts = _RIGHT.take(bins), counts.take(_ORDER.take(bins))
    return Histogram(finite, low, high, total, squares, variance, limits, counts, size - finite, zeros)


def _on_the_cpu(parts: Sequence[Tensor]) -> Iterator[_Summary]:
    """The summaries of tensors one after the other, each while it is in the cache."""
    keys = np.empty(min(max(map(len, parts)), _PIECE), np.uint32)
    for part in parts:
        values = part.numpy()
        moments = _moments_float32(part, values)
        if not moments:
            part = part[part.isfinite()]
            moments, values = _moments([part])[0].tolist(), part.numpy()
        counts = _count(values[:_PIECE], keys)
        for start in range(_PIECE, len(values), _PIECE):
            counts += _count(values[start : start + _PIECE], keys)
        yield moments, counts, len(values)


def _moments_float32(part: Tensor, values: np.ndarray) -> Sequence[float]:
    """`_moments` of one part in a fraction of the time; empty if float32 is not accurate enough.

    That is so if an element is not finite, squares overflow or underflow, or the mean is over twice the
    standard deviation, since the variance would then be a small difference of large numbers.
    """
    size = len(values)
    total, squares = part.sum().item(), 0.0
    for start in range(0, size, _DOT):
        piece = values[start : start + _DOT]
        squares += float(np.dot(piece, piece))
    if 1e-30 * size < squares < math.inf and 1.25 * total**2 < size * squares:
        variance = squares / size - (total / size) ** 2
        return float(np.minimum.reduce(values)), float(np.maximum.reduce(values)), total, squares, variance
    return ()


def _count(values: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Elements in each cell, (4096,) int64. Overwrites `keys`."""
    keys = np.right_shift(values.view(np.uint32), 20, out=keys[: len(values)])
    if len(keys) < _SHORT:
        return np.bincount(keys, minlength=_CELLS)
    return torch.bincount(torch.from_numpy(keys.view(np.int32)), minlength=_CELLS).numpy()


def _on_the_device(parts: Sequence[Tensor]) -> Iterator[_Summary]:
    """The summaries of all tensors at once, since each transfer waits for the device."""
    parts, rows = list(parts), _moments(parts).tolist()
    for index, (_, _, total, *_) in enumerate(rows):
        if not math.isfinite(total):
            parts[index] = parts[index][parts[index].isfinite()]
            rows[index] = _moments(parts[index : index + 1])[0].tolist()
    sizes = [len(part) for part in parts]
    keys = torch.cat(parts).view(torch.int32).bitwise_right_shift_(20).bitwise_and_(_CELLS - 1)
    torch._foreach_add_(keys.split(sizes), list(range(0, len(parts) * _CELLS, _CELLS)))
    table = torch.bincount(keys, minlength=len(parts) * _CELLS).numpy(force=True)
    return zip(rows, table.reshape(-1, _CELLS), sizes, strict=True)


def _moments(parts: Sequence[Tensor]) -> Tensor:
    """Minimum, maximum, sum, sum of squares and variance of each part, (len(parts), 5) float64.

    The variance is computed about the mean: as a difference of sums it would lose small deviations.
    """
    nothing = parts[0].new_full((), math.nan, dtype=torch.float64)
    rows: list[Tensor] = []
    for part in parts:
        wide, size = part.double(), len(part)
        rows += wide.aminmax() if size else (nothing, nothing)
        rows += (total := wide.sum(), wide.dot(wide))
        wide -= total / max(size, 1)
        rows.append(wide.dot(wide) / size if size else nothing)
    return torch.stack(rows).view(-1, 5)
