"""Histograms and exact moments of many tensors at once.

The bin of a float32 is its upper twelve bits: sign, exponent and three bits of the mantissa. So there are
eight bins an octave (TensorFlow has seven), symmetric about zero, the same for every tensor and step, and
found by one shift; one `torch.bincount` counts the bins of all tensors.
"""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_CELLS = 4096  # values of twelve bits
_ZERO = 2048  # cell around zero; magnitude m has cell _ZERO + m, its negative _ZERO - m
_INFINITE = 2040  # the first magnitude with the exponent of inf and NaN


def _edges() -> np.ndarray:
    """Left edge of each cell, NaN where no finite number lies."""
    magnitudes = (np.arange(1, _INFINITE, dtype=np.int32) << 20).view(np.float32).astype(np.float64)
    magnitudes = np.append(magnitudes, 2.0**128)
    edges = np.full(_CELLS, np.nan)
    edges[_ZERO + 1 : _ZERO + 1 + _INFINITE] = magnitudes
    edges[_ZERO + 1 - _INFINITE : _ZERO + 1] = -magnitudes[::-1]
    return edges


_EDGES = _edges()


@dataclass(frozen=True, eq=False, slots=True)
class Histogram:
    """Distribution of the finite elements of one tensor.

    Attributes:
        count: Number of finite elements.
        minimum: Smallest finite element, NaN if there is none.
        maximum: Largest finite element, NaN if there is none.
        total: Sum of the finite elements, added in float64.
        squares: Sum of their squares, added in float64.
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
        """Population standard deviation, NaN if there is no finite element; wrong by up to 1e-8 |mean|."""
        return math.sqrt(max(self.squares / self.count - self.mean**2, 0.0)) if self.count else math.nan

    @property
    def zero_share(self) -> float:
        """Share of the finite elements that are zero, in [0, 1], NaN if there is none."""
        return self.zeros / self.count if self.count else math.nan


@torch.no_grad()
def histograms(tensors: Mapping[str, Tensor]) -> dict[str, Histogram]:
    """Count and summarise all tensors in one pass on their device; two transfers, however many they are.

    Args:
        tensors: Real tensors of any shape, strides and dtype, all on one device. They are read as float32:
            a float64 beyond 3.4e38 is infinite.

    Returns:
        A histogram for each name, in the order given.
    """
    if not tensors:
        return {}
    parts = [_flatten(tensor) for tensor in tensors.values()]
    flat = torch.cat(parts, out=_scratch("flat", sum(map(len, parts)), torch.float32, parts[0].device))
    sizes = [tensor.numel() for tensor in tensors.values()]
    moments = _moments(flat, sizes)
    table = _count_(flat, sizes).numpy(force=True).reshape(-1, _CELLS)
    rows = moments.tolist()

    nonfinite = table.reshape(-1, 2, _ZERO)[:, :, _INFINITE:].sum((1, 2)).tolist()
    for index, tensor in enumerate(tensors.values()):
        if nonfinite[index]:  # rare, so their moments are taken again without
            part = _flatten(tensor)
            part = part[part.isfinite()]
            rows[index] = _moments(part, [len(part)])[0].tolist()

    table[:, _ZERO] += table[:, 0]  # -0.0 joins 0.0, then the other negative numbers are put in order
    table[:, 1:_ZERO] = table[:, _ZERO - 1 : 0 : -1]
    table[:, : _ZERO + 1 - _INFINITE] = 0
    table[:, _ZERO + _INFINITE :] = 0
    counted, zeros = table.sum(1).tolist(), table[:, _ZERO].tolist()
    columns = zip(tensors, counted, rows, _merge(table), nonfinite, zeros, strict=True)
    return {
        name: Histogram(count, low, high, total, squares, limits, counts, bad, zero)
        for name, count, (low, high, total, squares), (limits, counts), bad, zero in columns
    }


def _flatten(tensor: Tensor) -> Tensor:
    return (tensor if tensor.dtype == torch.float32 else tensor.float()).reshape(-1)


@functools.lru_cache(maxsize=4)
def _scratch(use: str, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory that is used again: a fresh megabyte costs more page faults than the arithmetic on it.

    Not for two threads at once.
    """
    return torch.empty(size, dtype=dtype, device=device)


def _moments(flat: Tensor, sizes: Sequence[int]) -> Tensor:
    """Minimum, maximum, sum and sum of squares of each part, (len(sizes), 4) float64."""
    if flat.is_cpu:
        return torch.from_numpy(_moments_cpu(flat.numpy(), np.array(sizes)))
    return _moments_device(flat, sizes)


def _moments_device(flat: Tensor, sizes: Sequence[int]) -> Tensor:
    nothing = flat.new_full((), math.nan, dtype=torch.float64)
    rows: list[Tensor] = []
    for part in flat.split(sizes):
        wide = part.double()
        rows += wide.aminmax() if len(wide) else (nothing, nothing)
        rows += (wide.sum(), wide.dot(wide))
    return torch.stack(rows).view(-1, 4)


def _moments_cpu(flat: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """`_moments_device` in two thirds of the time: numpy takes all parts in one call."""
    moments = np.tile((math.nan, math.nan, 0.0, 0.0), (len(sizes), 1))
    filled = np.flatnonzero(sizes)  # reduceat has no empty segments
    if len(filled):
        starts = (np.cumsum(sizes) - sizes)[filled]
        with np.errstate(invalid="ignore"):  # NaN, inf - inf: these moments are taken again
            wide = _scratch("wide", len(flat), torch.float64, torch.device("cpu")).numpy()
            np.copyto(wide, flat)
            moments[filled, 0] = np.minimum.reduceat(flat, starts)
            moments[filled, 1] = np.maximum.reduceat(flat, starts)
            moments[filled, 2] = np.add.reduceat(wide, starts)
            moments[filled, 3] = np.add.reduceat(np.square(wide, out=wide), starts)
    return moments


def _count_(flat: Tensor, sizes: Sequence[int]) -> Tensor:
    """Elements of each part in each cell, (len(sizes) * 4096,) int64. Overwrites `flat`.

    A number's cell is _ZERO + its magnitude if its sign bit is 0, and its magnitude if that is 1.
    """
    keys = flat.view(torch.int32).bitwise_right_shift_(20)
    offsets = range(_ZERO, _ZERO + len(sizes) * _CELLS, _CELLS)
    torch._foreach_add_(keys.split(sizes), list(offsets))
    return torch.bincount(keys, minlength=len(sizes) * _CELLS)


def _merge(table: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Limits and counts of each row: the edges that touch a cell with elements, but for the leftmost.

    Args:
        table: (tensors, 4096), cells in the order of the numbers, the outermost ones empty.
    """
    cells = table.reshape(-1)
    filled = cells != 0
    edges = np.flatnonzero(filled[:-1] | filled[1:]) + 1  # edge e lies between cells e - 1 and e
    limits, counts = _EDGES[edges % _CELLS], cells[edges - 1]
    bounds = np.searchsorted(edges, np.arange(0, cells.size + 1, _CELLS)).tolist()
    return [
        (limits[start + 1 : stop], counts[start + 1 : stop]) for start, stop in itertools.pairwise(bounds)
    ]
