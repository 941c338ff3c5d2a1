"""The protocol of early stopping rules, and the best value so far."""

import math
import re
from typing import Literal, Protocol

Mode = Literal["auto", "min", "max"]

HIGHER_IS_BETTER = re.compile(r"accuracy$|r2$|top\d+$")


class EarlyStop(Protocol):
    """A rule that takes one value per validation and may end the training.

    Attributes:
        metric: tag of its metric.
        mode: which direction is better.
        least_epochs: the shortest training that it can end; 0: it never ends one, by design.
    """

    metric: str
    mode: Mode
    least_epochs: int

    def update(self, epoch: int, value: float) -> str:
        """Takes the metric's value after an epoch; returns the reason to stop now, or ''."""
        ...


def sign(metric: str, mode: Mode) -> int:
    """1 where lower values of the metric are better, -1 where higher ones are ('auto': by its name).

    Example:
        >>> sign("val/loss", "auto"), sign("val/accuracy", "auto"), sign("val/loss", "max")
        (1, -1, -1)
    """
    if mode == "auto":
        return -1 if HIGHER_IS_BETTER.search(metric) else 1
    return 1 if mode == "min" else -1


class Best:
    """The best value so far. An equal value or NaN is no improvement.

    Args:
        metric: the tag, such as 'val/loss'.
        mode: which direction is better.
        min_delta: by how much a value must be better than the best to count, >= 0.

    Example:
        >>> best = Best("val/loss", "min")
        >>> [best.update(epoch, 10 * epoch, value) for epoch, value in enumerate([0.5, 0.5, 0.4])]
        [True, False, True]
        >>> best.epoch, best.step, best.value
        (2, 20, 0.4)
    """

    def __init__(self, metric: str, mode: Mode, min_delta: float = 0.0) -> None:
        self._sign = sign(metric, mode)
        self._min_delta = min_delta
        self.metric = metric
        self.epoch = -1
        self.step = -1
        self.value = math.nan

    def update(self, epoch: int, step: int, value: float) -> bool:
        """Takes a value; returns whether it is the best now."""
        first = math.isnan(self.value) and not math.isnan(value)
        improved = first or self._sign * value < self._sign * self.value - self._min_delta
        if improved:
            self.epoch, self.step, self.value = epoch, step, value
        return improved
