"""Early stopping by patience."""

from typing import Annotated

from sweepwise.config.ranges import Range
from sweepwise.early_stop.rule import Best, Mode, sign


class Patience:
    """Stops when the metric has not improved for `patience` epochs.

    An improvement is a value better than the best by more than `min_delta`; an equal value or NaN is none.
    With the best at epoch b the run stops at the first epoch e >= b + patience without improvement; so
    patience 0 stops at the first epoch without improvement, as 1 does.

    Args:
        metric: its tag, such as 'val/loss' or 'val/accuracy'.
        mode: 'min' or 'max' is better; 'auto' knows accuracy, topK and r2 as higher-is-better.
        patience: epochs without improvement, >= 0.
        min_delta: by how much a value must be better to count, >= 0, in the metric's unit.
        min_epochs: epochs before which the run never stops, >= 0.
        stopping_threshold: stop as soon as the metric is this good or better.
        divergence_threshold: stop as soon as the metric is worse than this.

    Source: Prechelt, Early Stopping - But When?, 1998 (doi:10.1007/3-540-49430-8_3).

    Example:
        >>> rule = Patience(patience=2)
        >>> [bool(rule.update(epoch, value)) for epoch, value in enumerate([0.5, 0.4, 0.4, 0.6])]
        [False, False, False, True]
    """

    def __init__(
        self,
        *,
        metric: str = "val/loss",
        mode: Mode = "auto",
        patience: Annotated[int, Range(0)] = 10,
        min_delta: Annotated[float, Range(0)] = 0.0,
        min_epochs: Annotated[int, Range(0)] = 0,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
    ) -> None:
        self.metric = metric
        self.mode = mode
        early = stopping_threshold is not None or divergence_threshold is not None
        self.least_epochs = max(min_epochs, 1 if early else patience + 1)
        self._patience = patience
        self._min_epochs = min_epochs
        self._stopping_threshold = stopping_threshold
        self._divergence_threshold = divergence_threshold
        self._sign = sign(metric, mode)
        self._best = Best(metric, mode, min_delta)

    def update(self, epoch: int, value: float) -> str:
        """Takes the metric's value after an epoch (counted from 0); returns the reason to stop, or ''."""
        improved = self._best.update(epoch, -1, value)
        if epoch + 1 < self._min_epochs:
            return ""
        if self._stopping_threshold is not None and self._as_good(value, self._stopping_threshold):
            return f"{self.metric} {value:.6g} reached the stopping threshold {self._stopping_threshold:g}"
        if self._divergence_threshold is not None and not self._as_good(value, self._divergence_threshold):
            return f"{self.metric} {value:.6g} passed the divergence threshold {self._divergence_threshold:g}"
        waited = epoch - self._best.epoch
        if not improved and waited >= self._patience:
            return f"{self.metric} has not improved on {self._best.value:.6g} for {waited} epochs"
        return ""

    def _as_good(self, value: float, threshold: float) -> bool:
        return self._sign * value <= self._sign * threshold
