"""A rate that climbs and descends."""

from typing import Annotated

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sweepwise import Range


class Hill(LRScheduler):
    """Lr * (1 - |2 t / length - 1|) up and down again once, from and to the share `foot` of it.

    Args:
        optimizer: whose rate it sets.
        length: of the hill, in epochs or steps by `per`; the rate stays at the foot after it.
        foot: share of the rate at both ends, from 0 to 1.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        length: Annotated[int, Range(2)],
        foot: Annotated[float, Range(0, 1)] = 0.1,
    ) -> None:
        self.length = length
        self.foot = foot
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """The rate of every group at `last_epoch`."""
        height = max(0.0, 1 - abs(2 * self.last_epoch / self.length - 1))
        return [rate * (self.foot + (1 - self.foot) * height) for rate in self.base_lrs]
