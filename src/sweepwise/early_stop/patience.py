"""Early stopping by patience."""

from typing import Annotated

from sweepwise.config.ranges import Range
from sweepwise.config.schema import checked
from sweepwise.improvement import Best, Mode, sign, usual_patience


@checked("early_stop")
class Patience:
    """Stops when the metric has not improved for `patience` epochs.

    An improvement is a value better than the best by more than `min_delta`; an equal value or NaN is none.
    With the best at epoch b the run stops at the first epoch e >= b + patience without improvement; so
    patience 0 stops at the first epoch without improvement, as 1 does.

    Args:
        metric: its tag, such as 'val/loss' or 'val/accuracy'.
        mode: 'min' or 'max' is better; 'auto' knows accuracy, topK and r2 as higher-is-better.
        patience: epochs without improvement, >= 0; null: 10, or half of a training of fewer than 20 epochs,
            and so many that the warm-up and the first drop of a plateau come before.
        min_delta: by how much a value must be better to count, >= 0, in the metric's unit.
        min_epochs: epochs before which the run never stops, >= 0.
        stopping_threshold: stop as soon as the metric is this good or better.
        divergence_threshold: stop as soon as the metric is worse than this.

    Raises:
        ValueError: every value is beyond one of the two thresholds.

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
        patience: Annotated[int, Range(0)] | None = None,
        min_delta: Annotated[float, Range(0)] = 0.0,
        min_epochs: Annotated[int, Range(0)] = 0,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
    ) -> None:
        self.metric = metric
        self.mode = mode
        self.patience = usual_patience() if patience is None else patience
        self.chosen = patience is not None
        self.min_epochs = min_epochs
        self.min_delta = min_delta
        self.stopping_threshold = stopping_threshold
        self.divergence_threshold = divergence_threshold
        self._sign = sign(metric, mode)
        self._best = Best(metric, mode, min_delta)
        if (
            stopping_threshold is not None
            and divergence_threshold is not None
            and self._as_good(divergence_threshold, stopping_threshold)
        ):
            raise ValueError(
                f"early_stop.divergence_threshold={divergence_threshold:g}: must be worse than "
                f"early_stop.stopping_threshold={stopping_threshold:g}, else every value ends the training"
            )

    @property
    def least_epochs(self) -> int:
        """The shortest training that it can end."""
        early = self.stopping_threshold is not None or self.divergence_threshold is not None
        return max(self.min_epochs, 1 if early else self.patience + 1)

    def settle(self, epochs: int, least: int) -> dict[str, int]:
        """Takes its patience from the length of the training, unless a person has set it.

        Args:
            epochs: of the training.
            least: epochs that it must wait for in any case.

        Returns:
            What it has taken, by the key of a config.

        Example:
            >>> Patience().settle(8, 0), Patience().settle(8, least=5), Patience(patience=3).settle(8, 0)
            ({'early_stop.patience': 4}, {'early_stop.patience': 5}, {})
        """
        if self.chosen:
            return {}
        self.patience = max(usual_patience(epochs), least)
        return {"early_stop.patience": self.patience}

    def update(self, epoch: int, value: float) -> str:
        """Takes the metric's value after an epoch (counted from 0); returns the reason to stop, or ''."""
        improved = self._best.update(epoch, -1, value)
        if epoch + 1 < self.min_epochs:
            return ""
        if self.stopping_threshold is not None and self._as_good(value, self.stopping_threshold):
            return f"{self.metric} {value:.6g} reached the stopping threshold {self.stopping_threshold:g}"
        if self.divergence_threshold is not None and not self._as_good(value, self.divergence_threshold):
            return f"{self.metric} {value:.6g} passed the divergence threshold {self.divergence_threshold:g}"
        waited = epoch - self._best.epoch
        if not improved and waited >= self.patience:
            return f"{self.metric} has not improved on {self._best.value:.6g} for {waited} epochs"
        return ""

    def _as_good(self, value: float, threshold: float) -> bool:
        return self._sign * value <= self._sign * threshold
