"""The ranges of numbers: classes for our annotations, and what torch's signatures leave out."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal


@dataclass(frozen=True)
class Range:
    """The interval a number must lie in; ends belong to it unless they are open.

    Example:
        >>> unit = Range(0, 1, open_high=True)
        >>> str(unit), 0 in unit, 1 in unit
        ('[0, 1)', True, False)
    """

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        left = "(" if self.open_low or math.isinf(self.low) else "["
        right = ")" if self.open_high or math.isinf(self.high) else "]"
        low, high = (str(end) if isinstance(end, int) else f"{end:g}" for end in (self.low, self.high))
        return f"{left}{low}, {high}{right}"


@dataclass(frozen=True)
class Increasing:
    """Each number of a list must be larger than the one before it."""


# torch's own signatures state types but no ranges; its names mean the same thing wherever they occur.
TORCH_RANGES: dict[str, Range] = {
    "lr": Range(0),
    "momentum": Range(0, 1, open_high=True),
    "dampening": Range(0, 1),
    "alpha": Range(0, 1, open_high=True),
    "betas": Range(0, 1, open_high=True),
    "eps": Range(0),
    "weight_decay": Range(0),
    "gamma": Range(0, open_low=True),
    "step_size": Range(1),
    "T_max": Range(1),
    "eta_min": Range(0),
    "factor": Range(0, 1),
    "patience": Range(0),
    "threshold": Range(0),
    "cooldown": Range(0),
    "min_lr": Range(0),
    "std": Range(0),
    "gain": Range(0),
    "T_0": Range(1),
    "T_mult": Range(1),
    "total_iters": Range(0),
    "total_steps": Range(1),
    "start_factor": Range(0, 1, open_low=True),
    "end_factor": Range(0, 1),
    "power": Range(0),
    "base_lr": Range(0),
    "max_lr": Range(0),
    "pct_start": Range(0, 1, open_low=True, open_high=True),
    "div_factor": Range(1),
    "final_div_factor": Range(0, open_low=True),
    "step_size_up": Range(1),
    "step_size_down": Range(1),
}

# Types of parameters for which the signature of torch's class gives none, or one that is too wide.
TORCH_TYPES: dict[str, Any] = {
    "MultiStepLR.milestones": Annotated[list[int], Range(1), Increasing()],
    "ConstantLR.factor": Annotated[float, Range(0, 1, open_low=True)],  # torch divides by it
    "LinearLR.total_iters": Annotated[int, Range(1)],  # with 0 the rate would never change
    "PolynomialLR.total_iters": Annotated[int, Range(1)],
    "CyclicLR.base_lr": float,
    "CyclicLR.max_lr": float,
    "CyclicLR.step_size_down": int | None,
    "CyclicLR.mode": Literal["triangular", "triangular2", "exp_range"],
    "CyclicLR.scale_mode": Literal["cycle", "iterations"],
}
