"""A training that ends after a number of epochs."""

from typing import Annotated

from sweepwise.config.ranges import Range
from sweepwise.config.schema import checked
from sweepwise.improvement import Mode, usual_patience


@checked("early_stop")
class After:
    """Ends the training after some epochs, whatever the metrics; the last weights are the best.

    The schedule keeps its horizon, which `trainer.max_epochs` sets: the rates are those of the longer
    training up to there. So a setting can be trained again, on all rows, for as long as it was best.

    Args:
        epochs: how many are trained, >= 1; null: 10, or half of a training of fewer than 20.

    Example:
        >>> rule = After(epochs=2)
        >>> rule.update(0, float("nan")), rule.update(1, float("nan"))
        ('', 'as early_stop.epochs=2 says')
    """

    least_epochs = 0
    metric: str | None = None
    mode: Mode = "auto"

    def __init__(self, *, epochs: Annotated[int, Range(1)] | None = None) -> None:
        self.epochs = usual_patience() if epochs is None else epochs
        self.chosen = epochs is not None

    def settle(self, epochs: int, least: int) -> dict[str, int]:
        """Takes its epochs from the length of the training, unless a person has set them; see `Patience`."""
        if self.chosen:
            return {}
        self.epochs = usual_patience(epochs)
        return {"early_stop.epochs": self.epochs}

    def update(self, epoch: int, value: float) -> str:
        """Returns the reason to stop once so many epochs have ended, whatever the value."""
        return f"as early_stop.epochs={self.epochs} says" if epoch + 1 >= self.epochs else ""
