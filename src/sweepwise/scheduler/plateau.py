"""torch's ReduceLROnPlateau with our rule of improvement, in epochs."""

import math

from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from sweepwise.improvement import Best


class Plateau:
    """Steps a ReduceLROnPlateau by the rule that early stopping has too.

    torch's own comparison takes an equal value for an improvement where the metric is negative. Epochs
    without a validation count as bad ones, so patience and cooldown are in epochs however often is validated.

    Args:
        torch_scheduler: the scheduler.
        metric: the tag of what it follows.

    Example:
        >>> optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=1)
        >>> rule = Plateau(scheduler, "val/r2")
        >>> [rule.step(value, epochs=1) or optimizer.param_groups[0]["lr"] for value in [-0.5, -0.5, -0.5]]
        [1.0, 1.0, 0.1]
    """

    def __init__(self, torch_scheduler: ReduceLROnPlateau, metric: str | None) -> None:
        self._torch = torch_scheduler
        relative = torch_scheduler.threshold_mode == "rel"
        self._best = Best(metric, torch_scheduler.mode, torch_scheduler.threshold, relative=relative)

    @property
    def patience(self) -> int:
        """Epochs without improvement that are borne; after one more the rate is lowered."""
        return self._torch.patience

    def lowered(self, rate: float) -> float:
        """What it would make of a rate."""
        lower = max(rate * self._torch.factor, self._torch.min_lrs[0])
        return lower if rate - lower > self._torch.eps else rate

    def step(self, value: float, epochs: int) -> None:
        """Takes the metric's value, `epochs` after the one before."""
        rule, unvalidated = self._torch, max(0, epochs - 1)
        cooling = min(unvalidated, rule.cooldown_counter)
        rule.cooldown_counter -= cooling
        rule.num_bad_epochs += unvalidated - cooling
        if self._best.update(-1, -1, value):
            rule.num_bad_epochs = -1
        rule.step(math.nan)  # one more bad epoch


def plateau_of(scheduler: LRScheduler, metric: str | None) -> Plateau | None:
    """The rule of a scheduler, if it is a ReduceLROnPlateau without a `step` of its own."""
    if isinstance(scheduler, ReduceLROnPlateau) and type(scheduler).step is ReduceLROnPlateau.step:
        return Plateau(scheduler, metric)
    return None
