"""Numbers and texts as plain data: what JSON can hold, and short."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

DIGITS = 6  # that a number keeps


def number(value: Any, digits: int = DIGITS) -> float | int | None:
    """A number with so many significant digits; None for what is none, or not finite.

    Example:
        >>> number(1.23456789), number(4.0), number(float("nan")), number(None), number(1e-9)
        (1.23457, 4, None, None, 1e-09)
    """
    if value is None or isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def numbers(values: Iterable[Any], digits: int = DIGITS) -> list[float | int | None]:
    """Numbers, each as `number` gives it."""
    return [number(value, digits) for value in values]


def shared(texts: Sequence[str], separator: str) -> dict[str, Any]:
    """Texts that have parts in common, each part once.

    Args:
        texts: such as the names of folders.
        separator: between the parts of a text.

    Returns:
        'separator', 'words', and 'rows': of each text the places of its parts among the words.

    Example:
        >>> shared(["a,b", "a,c"], ",")
        {'separator': ',', 'words': ['a', 'b', 'c'], 'rows': [[0, 1], [0, 2]]}
    """
    places: dict[str, int] = {}
    rows = [[places.setdefault(part, len(places)) for part in text.split(separator)] for text in texts]
    return {"separator": separator, "words": list(places), "rows": rows}


def thinned(length: int, most: int) -> list[int]:
    """Which of so many points are kept: at most `most`, evenly, the first and the last among them.

    Example:
        >>> thinned(3, 10), thinned(10, 4)
        ([0, 1, 2], [0, 3, 6, 9])
    """
    if length <= most:
        return list(range(length))
    return [round(place * (length - 1) / (most - 1)) for place in range(most)]
