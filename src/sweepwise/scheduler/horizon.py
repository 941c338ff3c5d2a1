"""What a scheduler takes from the length of the training: the horizon, shares of it, a plateau's patience."""

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch.optim.lr_scheduler import ReduceLROnPlateau

from sweepwise.config.schema import counts
from sweepwise.errors import UsageError
from sweepwise.improvement import usual_patience

HORIZON = "horizon"  # stands in a yaml for all epochs (or steps, by `per`) after the warm-up
SHARE = re.compile(r"\d+(\.\d+)?%")  # stands for so much of the horizon, wherever epochs or steps are counted
FACTORS = ("T_mult",)  # whole numbers that count neither
LONG = 10**6


def warmup_steps(warmup: float, steps_per_epoch: int) -> int:
    """The number of steps of a warm-up given in epochs.

    Example:
        >>> warmup_steps(0.5, steps_per_epoch=30)
        15
    """
    return round(warmup * steps_per_epoch)


@dataclass(frozen=True)
class Length:
    """Of a training, and how long early stopping waits in it.

    Attributes:
        steps: of the whole training, >= 1.
        steps_per_epoch: >= 1.
        validate_every: epochs between two validations, >= 1.
        watched: the metric of early stopping, if a person has set its patience.
        patience: which that is, in epochs.

    Example:
        >>> Length(steps=700, steps_per_epoch=7).horizon("epoch", warmup=5.0)
        95
    """

    steps: int
    steps_per_epoch: int
    validate_every: int = 1
    watched: str | None = None
    patience: int = 0

    def horizon(self, per: str, warmup: float) -> int:
        """Epochs or steps from the end of the warm-up on, the last one begun included; at least one."""
        left = max(1, self.steps - warmup_steps(warmup, self.steps_per_epoch))
        return left if per == "step" else -(-left // self.steps_per_epoch)

    def plateau_patience(self, metric: str, horizon: int) -> int:
        """Less than half of early stopping's, so that the rate is lowered before the training is ended.

        Args:
            metric: that the plateau follows.
            horizon: in epochs.

        Example:
            >>> Length(700, 7).plateau_patience("val/loss", 100)
            4
            >>> Length(700, 7, watched="val/loss", patience=3).plateau_patience("val/loss", 100)
            0
        """
        wait = self.patience if metric == self.watched else usual_patience(horizon)
        return max(0, min(wait // 2, wait - self.validate_every) - 1)


def settled(
    scheduler: Callable[..., Any], values: Mapping[str, Any], length: Length | None
) -> dict[str, Any]:
    """The values of a scheduler and its schedule, with numbers where the length of the training decides.

    Args:
        scheduler: torch's class or a function that takes some of the values.
        values: of it and of `Schedule`, as they are given.
        length: of the training; None: a long one, where only types and ranges are checked.

    Raises:
        UsageError: a share of the horizon is not in (0, 100] %.

    Example:
        >>> from torch.optim.lr_scheduler import MultiStepLR
        >>> from sweepwise.scheduler.horizon import Length
        >>> settled(MultiStepLR, {"milestones": ["30%", "60%", 19], "gamma": 0.1}, Length(20, 1))
        {'milestones': [6, 12, 19], 'gamma': 0.1}
    """
    warmup = values.get("warmup", 0.0)
    if not isinstance(warmup, (int, float)) or not 0 <= warmup < math.inf:
        warmup = 0.0  # a fault of its own
    horizon = length.horizon(values.get("per", "epoch"), warmup) if length else LONG
    faults: list[str] = []

    def number(name: str, value: Any) -> Any:
        if isinstance(value, (list, tuple)) and _shared(value):
            found = [number(name, one) for one in value]
            if not length:  # how a share and a number compare is not known yet
                return [one for one, given in zip(found, value, strict=True) if one is given] or found
            return list(dict.fromkeys(found))  # shares of a short training may be the same epoch
        if isinstance(value, str) and value == HORIZON:
            return horizon
        if not (_shared([value]) and (name == "end" or (counts(scheduler, name) and name not in FACTORS))):
            return value
        if not 0 < (percent := float(value[:-1])) <= 100:
            faults.append(f"scheduler.{name}={value}: must be in (0, 100] % of the training, or a number")
            return value
        return max(1, round(horizon * percent / 100))

    found = {name: number(name, value) for name, value in values.items()}
    if faults:
        raise UsageError(faults)
    plateau = inspect.isclass(scheduler) and issubclass(scheduler, ReduceLROnPlateau)
    if plateau and "patience" in values and values["patience"] is None:
        metric = values.get("metric") or "val/loss"
        found["patience"] = length.plateau_patience(metric, horizon) if length else LONG
    return found


def taken(values: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Which values the length of the training has decided, by the keys of a config."""
    changed = {name: value for name, value in found.items() if value is not values[name]}
    if values.get("end") == HORIZON:
        del changed["end"]  # says no more than the length of which it is the end
    return {f"scheduler.{name}": value for name, value in changed.items()}


def _shared(values: list[Any] | tuple[Any, ...]) -> bool:
    """Whether some of the values are words for a share of the horizon."""
    return any(isinstance(one, str) and (one == HORIZON or SHARE.fullmatch(one)) for one in values)
