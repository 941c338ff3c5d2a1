"""Decay by the inverse square root of time, which needs no horizon."""

import math
from typing import Annotated

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from sweepwise.config.ranges import Range


def inverse_sqrt(
    optimizer: Optimizer, *, timescale: Annotated[float, Range(0, open_low=True)] = 10.0
) -> LRScheduler:
    """The rate lr / sqrt(1 + t / timescale), t >= 0 the epoch or step.

    After a warm-up of W steps, per step and with timescale W + 1, this is the Transformer's schedule, scaled
    to a peak of lr: there t counts from the beginning of the warm-up.

    Args:
        optimizer: its rate is set.
        timescale: epochs or steps, (0, inf); after three times as many the rate is half.

    Source: Vaswani et al., Attention Is All You Need, arXiv:1706.03762, equation 3. Raffel et al. (T5,
    arXiv:1910.10683, section 3.1.2) hold the rate instead of warming up. Zhai et al., Scaling Vision
    Transformers, arXiv:2106.04560 (the timescale as a setting of its own).

    Example:
        >>> from sweepwise import Schedule
        >>> schedule = Schedule(partial(inverse_sqrt, timescale=1.0), lr=1.0, steps=9, steps_per_epoch=1)
        >>> schedule.rates[[0, 3, 8]].round(6).tolist()
        [1.0, 0.5, 0.333333]
    """
    return LambdaLR(optimizer, lambda t: 1 / math.sqrt(1 + t / timescale))
