"""No early stopping."""

from sweepwise.config.schema import checked
from sweepwise.improvement import Mode


@checked("early_stop")
class Never:
    """Never stops; its metric still chooses the best weights.

    Args:
        metric: the tag of the metric that chooses the best weights; null: the last ones are the best.
        mode: 'min' or 'max' is better; 'auto' knows accuracy, topK and r2 as higher-is-better.

    Example:
        >>> Never().update(0, float("nan"))
        ''
    """

    least_epochs = 0

    def __init__(self, *, metric: str | None = "val/loss", mode: Mode = "auto") -> None:
        self.metric = metric
        self.mode = mode

    def update(self, epoch: int, value: float) -> str:
        """Returns no reason to stop, whatever the value."""
        return ""
