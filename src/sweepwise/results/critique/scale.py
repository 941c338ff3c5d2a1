"""The values of a numeric key: on which scale they lie, what comes after the last, what lies between two."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from typing import TypeGuard

from sweepwise.config.ranges import TORCH_RANGES, Range

WIDEST = 10.0  # ratio of an added value to the one before it
QUOTIENT = 4 - 1e-9  # of the largest and the least value from which on a scale may be one of ratios
# Of parameters that torch does not name, by the last part of the key; tests hold them to the signatures.
OWN_RANGES = {
    "p": Range(0, 1, open_high=True),
    "dropout": Range(0, 1, open_high=True),
    "smoothing": Range(0, 1, open_high=True),
    "ema": Range(0, 1, open_high=True),
    "l1_ratio": Range(0, 1),
    "decay_fraction": Range(0, 1),
    "degrees": Range(0, 180),
    "coefficient": Range(0),
    "limit": Range(0, open_low=True),
    "max_norm": Range(0, open_low=True),
    "warmup": Range(0),
    "min_delta": Range(0),
    "validation": Range(0, 1, open_high=True),
    "test": Range(0, 1, open_high=True),
    "label_noise": Range(0, 1, open_high=True),
    "rho": Range(0, 1, open_high=True),
    "total_iters": Range(1),  # some schedules allow a 0, at which they do nothing
    "depth": Range(8, 10_000),
    "layers": Range(1, 10_000),
    "threads": Range(1, 1024),
    "workers": Range(0, 1024),
    "ns_steps": Range(1, 99),
    "points": Range(4),
    "images": Range(0, 64),
    "generator_seed": Range(0, 2**32 - 1),
}
NAMED = {
    "alpha": {"regularizer.mixup.alpha": Range(0), "regularizer.elastic_net.alpha": Range(0)},
    "gamma": {"scheduler.gamma": Range(0, 1, open_low=True, open_high=True)},  # above 1 the rate would grow
}


def is_number(value: Hashable) -> TypeGuard[int | float]:
    """Whether a value is a finite number; True is none, nor is '0.1' as text."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def known_range(key: str, values: Sequence[float]) -> Range:
    """The range that values of a key must lie in; what is not known stays on the side of 0 that was swept."""
    last = key.rpartition(".")[2]
    found = NAMED.get(last, {}).get(key) or OWN_RANGES.get(last) or TORCH_RANGES.get(last)
    if found:
        return found
    if all(isinstance(value, int) for value in values):
        return Range(1 if min(values) > 0 else 0) if min(values) >= 0 else Range()
    return Range(0, open_low=min(values) > 0) if min(values) >= 0 else Range()


def is_log(values: Sequence[float]) -> bool:
    """Whether values are spread by ratios rather than by steps; those that are 0 do not count."""
    positive = sorted(value for value in values if value > 0)
    if any(value < 0 for value in values) or len(positive) < 2:
        return False
    if len(positive) == 2:
        return positive[1] / positive[0] >= QUOTIENT
    steps = [after - before for before, after in itertools.pairwise(positive)]
    ratios = [math.log(after / before) for before, after in itertools.pairwise(positive)]
    return positive[-1] / positive[0] >= QUOTIENT and _unevenness(ratios) <= _unevenness(steps)


def _unevenness(gaps: Sequence[float]) -> float:
    mean = sum(gaps) / len(gaps)
    return math.sqrt(sum((gap / mean - 1) ** 2 for gap in gaps) / len(gaps))


def positions(values: Sequence[float]) -> list[float]:
    """Where values stand on their scale; NaN for a 0 on a scale of ratios."""
    if not is_log(values):
        return [float(value) for value in values]
    return [math.log(value) if value > 0 else math.nan for value in values]


def beyond(key: str, values: Sequence[float], *, high: bool) -> list[float]:
    """Two values beyond the highest or the lowest; none where its range ends there.

    Args:
        key: of the values.
        values: that were swept, ascending, two or more.
        high: on which side.

    Example:
        >>> beyond("optimizer.lr", [0.001, 0.01, 0.1], high=True)
        [1, 10]
        >>> beyond("regularizer.dropout.p", [0.3, 0.5, 0.7], high=True)
        [0.85, 0.925]
        >>> beyond("optimizer.momentum", [0, 0.5, 0.9], high=False)
        []
    """
    allowed = known_range(key, values)
    edge, neighbour = (values[-1], values[-2]) if high else (values[0], values[1])
    step = edge - neighbour
    if is_log(values) and edge > 0 and neighbour > 0:
        ratio = edge / neighbour
        ratio = max(min(ratio, WIDEST), 2.0) if high else min(max(ratio, 1 / WIDEST), 0.5)
        wanted = [edge * ratio, edge * ratio**2]
    else:
        wanted = [edge + step, edge + 2 * step]
    limit = allowed.high if high else allowed.low
    if math.isfinite(limit) and not all(value in allowed and value != limit for value in wanted):
        # towards a limit that must not be passed: half of what is left, and half of that
        wanted = [limit + (edge - limit) / 2, limit + (edge - limit) / 4]
    rounded = dict.fromkeys(alike(value, values) for value in wanted)
    return [value for value in rounded if value in allowed and (value > edge if high else value < edge)]


def between(values: Sequence[float], low: float, high: float, count: int = 2) -> list[float]:
    """Values between two neighbours, evenly on the scale of all.

    Example:
        >>> between([0.001, 0.01, 0.1], 0.01, 0.1)
        [0.022, 0.046]
        >>> between([1, 2, 3], 2, 3)
        []
    """
    if is_log(values) and low > 0:
        wanted = [low * (high / low) ** (place / (count + 1)) for place in range(1, count + 1)]
    else:
        wanted = [low + (high - low) * place / (count + 1) for place in range(1, count + 1)]
    kept = [value for value in (alike(one, values) for one in wanted) if low < value < high]
    whole = all(isinstance(value, int) for value in values)
    rounded = kept or [sensible(value, whole) for value in wanted]  # between 32 and 64 is no power of two
    return [value for value in dict.fromkeys(rounded) if low < value < high]


def alike(value: float, values: Sequence[float]) -> float:
    """A number as the others are written: a power of two where all of them are, on a scale of ratios.

    Example:
        >>> alike(1040.3, [16, 64, 256]), alike(1040.3, [16, 60, 256])
        (1024, 1000)
    """
    integers = [one for one in values if isinstance(one, int)]
    whole = len(integers) == len(values)
    powers = all(one > 0 and not one & (one - 1) for one in integers)
    if whole and powers and value >= 1 and is_log(values):
        return 2 ** round(math.log2(value))
    return sensible(value, whole)


def sensible(value: float, whole: bool = False) -> float:
    """A number as a person would write it: two digits, or three just below 1; whole where all others are."""
    if whole:
        return round(value) if abs(value) < 100 else round(float(f"{value:.2g}"))
    digits = 3 if 0.9 < abs(value) < 1 else 2
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e6 else rounded
