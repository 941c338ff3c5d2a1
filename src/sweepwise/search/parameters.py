"""What one key of a search is drawn from: a range between two ends, or options.

A value is rounded before it is used, so its override says all of it: folder names stay short, and the same
point is the same run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sweepwise.errors import UsageError

DECIMALS = 3  # behind the first digit of a range's width, and of a number of a logarithmic range


@dataclass(frozen=True)
class Choice:
    """A parameter that is one of some options, each as likely as any other.

    Attributes:
        key: what it sets.
        options: as overrides write them, each once; numbers in their order.
        ordered: whether options that are next to one another are alike; numbers always are.

    Raises:
        UsageError: there is no option.
    """

    key: str
    options: tuple[str, ...]
    ordered: bool = False

    def __post_init__(self) -> None:
        if not self.options:
            raise UsageError([f"{self.key}: has no options; give at least one"])
        options = list(dict.fromkeys(self.options))
        numbers = [_number(option) for option in options]
        if all(number is not None for number in numbers):
            options.sort(key=float)
            object.__setattr__(self, "ordered", True)
        object.__setattr__(self, "options", tuple(options))

    @property
    def size(self) -> int:
        """How many values it has."""
        return len(self.options)

    def at(self, place: float) -> str:
        """The value at a place in [0, 1]; options have equal parts of it."""
        return self.options[min(int(place * self.size), self.size - 1)]

    def __str__(self) -> str:
        return ",".join(self.options)


@dataclass(frozen=True)
class Number:
    """A parameter that is a number between two ends, both included.

    Attributes:
        key: what it sets.
        low: its least value.
        high: its greatest.
        log: whether its logarithm is drawn evenly, so that each decade is as likely as any other.
        whole: whether it is a whole number.

    Raises:
        UsageError: there is nothing between the ends, or no logarithm of them.
    """

    key: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        fault = self._fault()
        if fault:
            raise UsageError([f"{self.key}={self}: {fault}"])
        kind = int if self.whole else float
        object.__setattr__(self, "low", kind(self.low))
        object.__setattr__(self, "high", kind(self.high))

    def _fault(self) -> str:
        low, high = self.low, self.high
        if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(high - low)):
            return "the ends of a range must be finite"
        if low > high:
            return f"a range begins at its lower end; write {self._written(high, low)}"
        if low == high:
            return f"there is nothing between its ends; one value is written {self.key}={_text(low)}"
        if self.whole and (low != int(low) or high != int(high)):
            ends = math.ceil(low), math.floor(high)
            way_out = f"write {self._written(*ends)}" if ends[0] < ends[1] else "leave int out"
            return f"the ends of a range of whole numbers must be whole; {way_out}"
        if self.log and low <= 0:
            least = 1 if self.whole else high / 1000 if high > 0 else 0.0001
            way_out = f"begin at {_text(least)}, or leave log out" if high > least else "leave log out"
            return f"a logarithmic range must begin above 0; {way_out}"
        return ""

    @property
    def size(self) -> int | None:
        """How many values it has; None: as many as there are numbers."""
        return int(self.high) - int(self.low) + 1 if self.whole else None

    def at(self, place: float) -> str:
        """The value at a place in [0, 1], rounded."""
        low, high = self.low, self.high
        if self.whole:
            low, high = low - 0.5, high + 0.5  # so that the ends are as likely as what lies between
        if self.log:
            value = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
        else:
            value = low + place * (high - low)
        return self.text(value)

    def text(self, value: float) -> str:
        """A value as an override writes it: between the ends, with as many digits as the range needs."""
        value = min(max(value, self.low), self.high)
        if self.whole:
            return str(min(max(math.floor(value + 0.5), int(self.low)), int(self.high)))
        width = value * min(1.0, math.log(self.high / self.low)) if self.log else self.high - self.low
        rounded = round(value, DECIMALS - math.floor(math.log10(width)))
        return _text(float(min(max(rounded, self.low), self.high)))

    def _written(self, low: float, high: float) -> str:
        inner = f"interval({_text(low)},{_text(high)})"
        inner = f"int({inner})" if self.whole else inner
        return f"tag(log,{inner})" if self.log else inner

    def __str__(self) -> str:
        return self._written(self.low, self.high)


@dataclass(frozen=True)
class ByOption:
    """A parameter whose range depends on the option that a point has chosen for a group.

    Attributes:
        key: what it sets.
        group: whose option decides; a parameter of the space.
        ranges: by option; with another option the key is not set.
    """

    key: str
    group: str
    ranges: Mapping[str, Choice | Number]

    @property
    def size(self) -> int | None:
        """How many values it has at most; None: as many as there are numbers."""
        sizes = [one.size for one in self.ranges.values()]
        return None if any(size is None for size in sizes) else sum(size or 0 for size in sizes)


Parameter = Choice | Number | ByOption


def _number(text: str) -> float | None:
    try:
        return float(text) if math.isfinite(float(text)) else None
    except ValueError:
        return None


def _text(value: float) -> str:
    return repr(value)
