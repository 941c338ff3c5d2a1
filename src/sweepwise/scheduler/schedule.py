"""The learning rate of every step, known before training starts.

Any torch scheduler is run ahead once, on an optimizer without parameters, into a table of one rate per step.
So a schedule needs no state to resume, can be drawn, and serves many runs at once as rows of numbers. A
scheduler whose `step` takes a metric (ReduceLROnPlateau) is driven during training and rescales what is left
of its table.
"""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from sweepwise.config.ranges import Range

HORIZON = "horizon"  # in a yaml: all epochs (or steps, by `per`) that are left after the warm-up
ROUNDING = 1e-9  # relative to the base rate


class _RateHolder(torch.optim.Optimizer):
    """An optimizer that only holds a rate, for a scheduler to act on.

    It leaves out `Optimizer.__init__`, whose first call imports torch._dynamo (1.6 s).
    """

    def __init__(self, lr: float) -> None:
        self.defaults = {"lr": lr}
        self.param_groups = [{"lr": lr, "params": []}]

    @property
    def rate(self) -> float:
        return float(self.param_groups[0]["lr"])

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Nothing to step."""


class Schedule:
    """The learning rates of one run.

    During the warm-up of W steps, step s has the rate r (s + 1) / (W + 1), where r is the scheduler's first
    rate; the scheduler begins after it. Past `end` the rate stays as it was there.

    Args:
        scheduler: builds a torch scheduler from an optimizer.
        lr: the base learning rate, >= 0.
        steps: of the whole training, >= 1.
        steps_per_epoch: >= 1.
        per: whether the scheduler moves after every epoch or every step.
        warmup: length of the linear warm-up in epochs, >= 0.
        end: the epoch or step (by `per`) of the scheduler after which its rate no longer moves; torch's
            cosine would rise again. null: no end.
        metric: the tag that a metric-driven scheduler watches.

    Attributes:
        rates: (steps,) the rate that each step uses.

    Raises:
        ValueError: a rate of the table is negative or not finite, the warm-up leaves nothing, or what was
            built is no scheduler, moves a momentum too, or divides by zero.

    Source: warm-up: Goyal et al., Accurate, Large Minibatch SGD, arXiv:1706.02677, section 2.2.

    Example:
        >>> halved = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
        >>> Schedule(halved, lr=0.8, steps=4, steps_per_epoch=1, warmup=1).rates.tolist()
        [0.4, 0.8, 0.4, 0.2]
    """

    def __init__(
        self,
        scheduler: Callable[[torch.optim.Optimizer], LRScheduler],
        *,
        lr: float,
        steps: int,
        steps_per_epoch: int,
        per: Literal["epoch", "step"] = "epoch",
        warmup: Annotated[float, Range(0)] = 0.0,
        end: Annotated[int, Range(0)] | None = None,
        metric: str = "val/loss",
    ) -> None:
        self.metric = metric
        self._per = per
        self._stride = steps_per_epoch if per == "epoch" else 1
        self._warmup_steps = warmup_steps(warmup, steps_per_epoch)
        if self._warmup_steps >= steps:
            raise ValueError(
                f"scheduler.warmup={warmup:g}: must be shorter than the training of "
                f"{steps / steps_per_epoch:g} epochs"
            )
        self._scheduler = scheduler
        self._lr = lr
        self._units = -(-(steps - self._warmup_steps) // self._stride)
        self._driver, self._holder = _attach(scheduler, lr)
        if isinstance(self._driver, OneCycleLR):  # it leaves its course a step before it refuses to move
            last = self._driver.total_steps - 1
            end = last if end is None else min(end, last)
        self._end = end
        self._driven = "metrics" in inspect.signature(self._driver.step).parameters
        moves = (
            [self._holder.rate] * self._units if self._driven else _run_ahead(scheduler, lr, self._units, end)
        )
        self.rates: NDArray[np.float64] = np.empty(steps)
        self.rates[self._warmup_steps :] = np.repeat(moves, self._stride)[: steps - self._warmup_steps]
        ramp = np.arange(1, self._warmup_steps + 1) / (self._warmup_steps + 1)
        self.rates[: self._warmup_steps] = moves[0] * ramp
        # torch multiplies from rate to rate, so a decay to 0 may end a rounding error below it.
        self.rates[(self.rates < 0) & (self.rates > -ROUNDING * lr)] = 0.0
        bad = ~(np.isfinite(self.rates) & (self.rates >= 0))
        if bad.any():
            step = int(bad.argmax())
            raise ValueError(
                f"scheduler: the rate {self.rates[step]:g} at step {step} must be finite and not negative"
            )

    def observe(self, next_step: int, value: float) -> None:
        """Lets a metric-driven scheduler rescale the rates from `next_step` on; others ignore the value."""
        if not self._driven:
            return
        before = self._holder.rate
        self._driver.step(value)  # type: ignore[arg-type]
        if self._holder.rate != before:
            self.rates[next_step:] *= self._holder.rate / before

    def notes(self) -> list[str]:
        """What a user should know before the training starts: a schedule longer or shorter than it."""
        unit = "epochs" if self._per == "epoch" else "steps"
        notes = []
        if self._end is not None and self._end + 1 < self._units:
            notes.append(
                f"the schedule ends after {self._end} of {self._units} {unit}; "
                f"the rate then stays at {self.rates[-1]:.3g}"
            )
        if self._end is not None and self._end > self._units:
            notes.append(
                f"the schedule is {self._end} {unit} long, the training only {self._units}: "
                f"it ends at the rate {self.rates[-1]:.3g}"
            )
        settled = self.rates[self._warmup_steps :]
        if not self._driven and self._end is None and (settled == settled[0]).all():
            ahead = _run_ahead(self._scheduler, self._lr, 10 * self._units + 1, None)
            first = next((unit for unit, rate in enumerate(ahead) if rate != ahead[0]), None)
            if first is not None:
                notes.append(
                    f"the rate first changes after {first} {unit}, the training has {self._units}: "
                    f"it stays at {settled[0]:.3g}"
                )
        return notes


def warmup_steps(warmup: float, steps_per_epoch: int) -> int:
    """The whole number of steps of a warm-up given in epochs.

    Example:
        >>> warmup_steps(0.5, steps_per_epoch=30)
        15
    """
    return round(warmup * steps_per_epoch)


def _attach(
    scheduler: Callable[[torch.optim.Optimizer], LRScheduler], lr: float
) -> tuple[LRScheduler, _RateHolder]:
    holder = _RateHolder(lr)
    cycles = inspect.signature(scheduler).parameters.get("cycle_momentum")
    if cycles is not None and cycles.default is True:
        raise ValueError("scheduler.cycle_momentum=true: must be false: a schedule here is of the rate alone")
    try:
        driver = scheduler(holder)
    except NotImplementedError:
        raise ValueError("scheduler._target_: must be a scheduler, not the class that they inherit") from None
    except ZeroDivisionError:
        raise ValueError(
            "scheduler: a phase of it has no length, so it divides by zero; OneCycleLR's rise has none where "
            "pct_start * total_steps is 1"
        ) from None
    if not isinstance(driver, LRScheduler):
        raise ValueError(f"scheduler._target_: must build an LRScheduler; it gave a {type(driver).__name__}")
    return driver, holder


def _run_ahead(
    scheduler: Callable[[torch.optim.Optimizer], LRScheduler], lr: float, units: int, end: int | None
) -> list[float]:
    """The rate in each epoch or step; past `end` the last one."""
    driver, holder = _attach(scheduler, lr)
    moves = [holder.rate]
    for _ in range(min(units - 1, units if end is None else end)):
        holder.step()
        driver.step()
        moves.append(holder.rate)
    return moves + moves[-1:] * (units - len(moves))
