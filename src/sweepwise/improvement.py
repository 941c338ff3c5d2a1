"""When a metric has improved: one rule for the best weights, early stopping and the plateau schedule."""

import math
import re
from typing import Literal

Mode = Literal["auto", "min", "max"]

HIGHER_IS_BETTER = re.compile(r"accuracy$|r2$|top\d+$")


def sign(metric: str, mode: Mode) -> int:
    """1 where lower values of the metric are better, -1 where higher ones are ('auto': by its name).

    Example:
        >>> sign("val/loss", "auto"), sign("val/accuracy", "auto"), sign("val/loss", "max")
        (1, -1, -1)
    """
    if mode == "auto":
        return -1 if HIGHER_IS_BETTER.search(metric) else 1
    return 1 if mode == "min" else -1


def limits(metric: str) -> tuple[float, float]:
    """The least and the largest value that a metric can have.

    Example:
        >>> limits("val/accuracy"), limits("train/loss"), limits("val/r2")
        ((0.0, 1.0), (0.0, inf), (-inf, 1.0))
    """
    if metric.endswith("r2"):
        return -math.inf, 1.0
    if re.search(r"accuracy$|top\d+$|ece$", metric):
        return 0.0, 1.0
    return 0.0 if re.search(r"(loss|mse|mae)$", metric) else -math.inf, math.inf


def usual_patience(epochs: float = math.inf) -> int:
    """Epochs without improvement that are waited for in a training, unless a person says how many; >= 1.

    10, or half of a training of fewer than 20, which would never be ended otherwise; one of two never is.

    Example:
        >>> usual_patience(100), usual_patience(20), usual_patience(5), usual_patience(1)
        (10, 10, 2, 10)
    """
    return int(min(10, epochs / 2)) if epochs > 2 else 10


class Best:
    """The best value so far. An equal value or NaN is no improvement.

    Args:
        metric: the tag, such as 'val/loss'; None: there is none to choose by, and the last is the best.
        mode: which direction is better.
        min_delta: by how much a value must be better than the best to count, >= 0.
        relative: whether `min_delta` is a share of the best value's magnitude, whatever its sign.

    Example:
        >>> best = Best("val/loss", "min")
        >>> [best.update(epoch, 10 * epoch, value) for epoch, value in enumerate([0.5, 0.5, 0.4])]
        [True, False, True]
        >>> best.epoch, best.step, best.value
        (2, 20, 0.4)
        >>> last = Best(None)
        >>> [last.update(epoch, 10 * epoch, math.nan) for epoch in range(3)], last.epoch
        ([True, True, True], 2)
        >>> best = Best("val/r2", "max", min_delta=0.1, relative=True)
        >>> [best.update(epoch, -1, value) for epoch, value in enumerate([-1.0, -1.0, -0.95, -0.85])]
        [True, False, False, True]
    """

    def __init__(
        self, metric: str | None, mode: Mode = "auto", min_delta: float = 0.0, *, relative: bool = False
    ) -> None:
        self._sign = 1 if metric is None else sign(metric, mode)
        self._min_delta = min_delta
        self._relative = relative
        self.metric = metric
        self.epoch = -1
        self.step = -1
        self.value = math.nan

    def update(self, epoch: int, step: int, value: float) -> bool:
        """Takes a value, NaN without a metric; returns whether it is the best now."""
        first = math.isnan(self.value) and not math.isnan(value)
        improved = self.metric is None or first or self._sign * value < self._sign * self._bound()
        if improved:
            self.epoch, self.step, self.value = epoch, step, value
        return improved

    def _bound(self) -> float:
        """The value that the next one must be better than."""
        if self._relative:
            return self.value * (1 - self._sign * math.copysign(self._min_delta, self.value))
        return self.value - self._sign * self._min_delta
