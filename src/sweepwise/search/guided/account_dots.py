"""Where the dots of a stage stand: a row for each setting, a dot for each seed, the mean marked.

Places are percentages of the width: a drawing is as wide as its page lets it, and its dots stay round.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sweepwise.search.guided.account import Compared
from sweepwise.search.guided.account_words import finite, mean

EDGE = 3.0  # per cent of the width that stay free on each side
ROOM = 10.0  # the same where values that are too bad for the axis are counted
FAR = 8.0  # distances of the middle value from the best at which the axis ends, whatever lies beyond
MOST_TICKS = 4
STEPS = (1.0, 2.0, 5.0, 10.0, 20.0)  # between ticks, times a power of ten


@dataclass(frozen=True)
class Row:
    """The dots of a setting.

    Attributes:
        dots: places of the values that are on the axis, in per cent.
        mean: place of the mean; None if there is none, or it is beyond the axis.
        beyond: how many values are too bad for the axis.
    """

    dots: tuple[float, ...]
    mean: float | None
    beyond: int


@dataclass(frozen=True)
class Dots:
    """A drawing.

    Attributes:
        rows: one for each setting.
        ticks: of the axis: place in per cent, and text.
        right: whether values that are too bad lie beyond the right end of the axis.
    """

    rows: tuple[Row, ...]
    ticks: tuple[tuple[float, str], ...]
    right: bool


def dots(settings: Sequence[Compared], sign: int) -> Dots | None:
    """The drawing of some settings; None if none has a value.

    Args:
        settings: a row each.
        sign: 1 where lower values are better, -1 where higher ones are.
    """
    values = [value for one in settings for value in finite(one.values).values()]
    if not values:
        return None
    low, high = limits(values, sign)
    room = EDGE if low <= min(values) and max(values) <= high else ROOM
    place = _Place(low, high, *((EDGE, room) if sign == 1 else (room, EDGE)))
    return Dots(
        tuple(_row(one, place) for one in settings),
        tuple((place(at), text) for at, text in ticks(low, high)),
        sign == 1,
    )


def limits(values: Iterable[float], sign: int) -> tuple[float, float]:
    """The ends of the axis: the best value, and the worst or what is far enough to stand for it.

    Example:
        >>> limits([1.0, 1.1, 1.2, 1.3], 1), limits([0.9, 0.8, -50.0], -1)
        ((1.0, 1.3), (0.8, 0.9))
    """
    order = sorted(sign * value for value in values)
    best, worst = order[0], order[-1]
    middle = order[len(order) // 2]
    if middle > best:
        worst = max(value for value in order if value - best <= FAR * (middle - best))
    low, high = sorted((sign * best, sign * worst))
    return low, high


class _Place:
    """Where a value stands on the axis, in per cent of the width."""

    def __init__(self, low: float, high: float, left: float, right: float) -> None:
        self._low, self._high, self._left, self._right = low, high, left, right

    def __call__(self, value: float) -> float:
        if self._high == self._low:
            return 50.0
        share = (value - self._low) / (self._high - self._low)
        return round(self._left + (100 - self._left - self._right) * share, 2)

    def __contains__(self, value: float) -> bool:
        slack = 1e-9 * (self._high - self._low) + 1e-12
        return self._low - slack <= value <= self._high + slack


def _row(one: Compared, place: _Place) -> Row:
    values, middle = list(finite(one.values).values()), mean(one)
    there = [value for value in values if value in place]
    return Row(
        tuple(place(value) for value in there),
        place(middle) if middle is not None and middle in place else None,
        len(values) - len(there),
    )


def ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round numbers between two ends, at most `MOST_TICKS`, with their texts.

    Example:
        >>> ticks(0.381, 0.452)
        [(0.4, '0.40'), (0.42, '0.42'), (0.44, '0.44')]
    """
    width = high - low
    if width <= 0 or not math.isfinite(width):
        return [(low, f"{low:.4g}")]
    power = 10.0 ** math.floor(math.log10(width / MOST_TICKS))
    step = next(
        step
        for step in (power * size for size in STEPS)
        if math.floor(high / step) - math.ceil(low / step) < MOST_TICKS
    )
    places = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [(at * step, _text(at * step, step)) for at in places]


def _text(value: float, step: float) -> str:
    """A number with the digits that a step has; those of large and of tiny steps with an exponent."""
    digits = -math.floor(math.log10(step) + 1e-9)
    if 0 <= digits <= 5 and abs(value) < 1e6:
        return f"{value:.{digits}f}"
    whole = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{min(max(whole + digits + 1, 1), 15)}g}"
