"""The protocol of early stopping rules."""

from typing import Protocol

from sweepwise.improvement import Mode


class EarlyStop(Protocol):
    """A rule that takes one value per validation and may end the training.

    One with a `settle`, as `Patience` has it, is told before how long the training is.

    Attributes:
        metric: tag of its metric; None: it takes none, and the last weights are the best.
        mode: which direction is better.
        least_epochs: the shortest training that it can end; 0: it never ends one, by design.
    """

    mode: Mode
    least_epochs: int

    @property
    def metric(self) -> str | None:
        """See there."""
        ...

    def update(self, epoch: int, value: float) -> str:
        """Takes the metric's value after an epoch; returns the reason to stop now, or ''."""
        ...
