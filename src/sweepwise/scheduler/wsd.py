"""Warm-up, stable, decay (WSD): a constant rate for most of the training, then a decay."""

import math
from collections.abc import Callable
from typing import Annotated, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from sweepwise.config.ranges import Range

# The share of the rate at x in [0, 1] of the decay.
SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda x: 1 - x,
    "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
    "1-sqrt": lambda x: 1 - math.sqrt(x),
}


def wsd(
    optimizer: Optimizer,
    *,
    total_iters: Annotated[int, Range(1)],
    decay_fraction: Annotated[float, Range(0, 1)] = 0.2,
    shape: Literal["linear", "cosine", "1-sqrt"] = "1-sqrt",
    end_factor: Annotated[float, Range(0, 1)] = 0.0,
) -> LRScheduler:
    """The rate lr until the decay begins; then lr (end_factor + (1 - end_factor) f(x)).

    x = (t - (T - D)) / D runs from 0 to 1 over the decay's D = decay_fraction T epochs or steps, which need
    not be a whole number; f(x) is 1 - x, (1 + cos(pi x)) / 2 or 1 - sqrt(x). From t = T on the rate stays at
    end_factor lr. The warm-up is part of every `Schedule`.

    Args:
        optimizer: its rate is set.
        total_iters: T, epochs or steps from the end of the warm-up to the end of the decay, >= 1.
        decay_fraction: share of T that decays, [0, 1]; 0: the rate stays constant.
        shape: of the decay, f.
        end_factor: share of lr at the end, [0, 1].

    Source: Hu et al., MiniCPM, arXiv:2404.06395, section 4 (WSD; its own f is exponential). Hägele et al.,
    Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations, arXiv:2405.18392, section 3
    (decay over the last 20 %, 1 - sqrt above linear).

    Example:
        >>> from sweepwise import Schedule
        >>> rule = partial(wsd, total_iters=5, decay_fraction=0.4, shape="linear")
        >>> Schedule(rule, lr=1.0, steps=7, steps_per_epoch=1).rates.tolist()
        [1.0, 1.0, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    decay, f = decay_fraction * total_iters, SHAPES[shape]

    def factor(t: int) -> float:
        left = max(total_iters - t, 0)
        return 1.0 if left >= decay else end_factor + (1 - end_factor) * f(1 - left / decay)

    return LambdaLR(optimizer, factor)
