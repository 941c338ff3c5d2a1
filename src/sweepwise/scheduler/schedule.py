"""The learning rate of every step, computed before the training starts.

A torch scheduler runs once in advance, on an optimizer without parameters, and its rates are kept in a table.
So a schedule needs no saved state, can be drawn, and the tables of many runs form one matrix. A scheduler
whose `step` takes a metric (ReduceLROnPlateau) is stepped during training and rescales the rest of its table.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.lr_scheduler import (
    ConstantLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
)

from sweepwise.config.calling import default_of
from sweepwise.config.ranges import Range
from sweepwise.scheduler.horizon import warmup_steps
from sweepwise.scheduler.plateau import plateau_of

ROUNDING = 1e-9  # relative to the base rate
KEPT = 4  # tables of a process, as the runs of a sweep mostly share theirs


class _RateHolder(torch.optim.Optimizer):
    """An optimizer that only holds a learning rate, for a scheduler to set.

    It does not call `Optimizer.__init__`, whose first call imports torch._dynamo (1.6 s).
    """

    def __init__(self, lr: float) -> None:
        self.defaults = {"lr": lr}
        self.param_groups = [{"lr": lr, "params": []}]

    @property
    def rate(self) -> float:
        return float(self.param_groups[0]["lr"])

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Does nothing, as there are no parameters."""


class Schedule:
    """The learning rates of one run.

    During the warm-up of W steps, step s has the rate r (s + 1) / (W + 1), where r is the scheduler's first
    rate; the scheduler begins after it: a metric measured during the warm-up is not given to it. Past `end`
    the rate stays as it was there. ReduceLROnPlateau counts epochs, also those without a validation.

    Args:
        scheduler: builds a torch scheduler from an optimizer.
        lr: the base learning rate, >= 0.
        steps: of the whole training, >= 1.
        steps_per_epoch: >= 1.
        per: whether the scheduler steps after every epoch or every step.
        warmup: length of the linear warm-up in epochs, >= 0.
        end: the epoch or step (by `per`) of the scheduler after which its rate stays constant; torch's cosine
            would rise again. null: no end.
        metric: tag of the metric for a scheduler whose `step` takes one; null: 'val/loss'.

    Attributes:
        last_rate: of the last step, as far as it is known before the training.
        metric: see there; None: the scheduler takes none.
        plateau: the rule of a ReduceLROnPlateau; else None.
        warmup_steps: W.
        taken: options of which the length of the training has decided the value, by the keys of a config.
        mode: which direction of the metric is better; 'auto': the scheduler takes none.

    Raises:
        ValueError: a rate of the table is negative or not finite, the warm-up is as long as the training,
            `scheduler` builds no scheduler, changes the momentum too, or divides by zero, or it has no use
            for `metric`, `per` or `end`.

    Source: warm-up: Goyal et al., Accurate, Large Minibatch SGD, arXiv:1706.02677, section 2.2.

    Example:
        >>> halved = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
        >>> Schedule(halved, lr=0.8, steps=4, steps_per_epoch=1, warmup=1).rates.tolist()
        [0.4, 0.8, 0.4, 0.2]
    """

    taken: Mapping[str, Any] = {}

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
        metric: str | None = None,
    ) -> None:
        self._per = per
        self._steps_per_epoch = steps_per_epoch
        self._stride = steps_per_epoch if per == "epoch" else 1
        self._warmup = warmup
        self.warmup_steps = warmup_steps(warmup, steps_per_epoch)
        if self.warmup_steps >= steps:
            raise ValueError(
                f"scheduler.warmup={warmup:g}: must be shorter than the training of "
                f"{steps / steps_per_epoch:g} epochs"
            )
        self._scheduler = scheduler
        self._lr = lr
        self._units = -(-(steps - self.warmup_steps) // self._stride)
        self._torch_scheduler, self._holder = _attach(scheduler, lr)
        if isinstance(self._torch_scheduler, OneCycleLR):  # its last step would give a wrong rate
            last = self._torch_scheduler.total_steps - 1
            end = last if end is None else min(end, last)
        self._end = end
        self._takes_metric = "metrics" in inspect.signature(self._torch_scheduler.step).parameters
        self._refuse_unread(metric)
        self.metric = (metric or "val/loss") if self._takes_metric else None
        self.plateau = plateau_of(self._torch_scheduler, self.metric)
        self._observed = self.warmup_steps
        self.mode: Literal["auto", "min", "max"] = "auto"
        mode: Any = getattr(self._torch_scheduler, "mode", "")
        if self._takes_metric and mode in ("min", "max"):
            self.mode = mode
        self._steps = steps
        self._ahead = (
            np.array([self._holder.rate])
            if self._takes_metric
            else _run_ahead(scheduler, lr, self._units, end)
        )
        # torch multiplies from rate to rate, so a decay to 0 may end a rounding error below it.
        self._ahead[(self._ahead < 0) & (self._ahead > -ROUNDING * lr)] = 0.0
        if not (np.isfinite(self._ahead) & (self._ahead >= 0)).all():
            step = int((~(np.isfinite(self.rates) & (self.rates >= 0))).argmax())
            raise ValueError(
                f"scheduler: the rate {self.rates[step]:g} at step {step} must be finite and not negative"
            )
        self.last_rate = float(self._ahead[-1])

    @property
    def varies(self) -> bool:
        """Whether its rates differ, or may: by a metric."""
        return self._takes_metric or self.warmup_steps > 0 or bool((self._ahead != self._ahead[0]).any())

    @cached_property
    def rates(self) -> NDArray[np.float64]:
        """The rate of each step: (steps,)."""
        rates, left = np.empty(self._steps), self._steps - self.warmup_steps
        changing = np.repeat(self._ahead, self._stride)[:left]
        rates[self.warmup_steps :][: len(changing)] = changing
        rates[self.warmup_steps :][len(changing) :] = self._ahead[-1]
        ramp = np.arange(1, self.warmup_steps + 1) / (self.warmup_steps + 1)
        rates[: self.warmup_steps] = self._ahead[0] * ramp
        return rates

    def observe(self, next_step: int, value: float) -> None:
        """Gives a metric to a scheduler that takes one, which may rescale the rates from `next_step` on.

        Args:
            next_step: the number of steps after which the metric was measured.
            value: the metric.
        """
        if not self._takes_metric or next_step <= self.warmup_steps:
            return
        before = self._holder.rate
        if self.plateau is not None:
            self.plateau.step(value, round((next_step - self._observed) / self._steps_per_epoch))
        else:
            self._torch_scheduler.step(value)  # type: ignore[arg-type]
        self._observed = next_step
        if self._holder.rate != before:
            self.rates[next_step:] *= self._holder.rate / before

    def _refuse_unread(self, metric: str | None) -> None:
        """Refuses an argument that the scheduler would leave without effect."""
        kind = type(self._torch_scheduler).__name__
        if metric is not None and not self._takes_metric:
            raise ValueError(f"scheduler.metric={metric}: must be left out, as {kind} follows no metric")
        if self._takes_metric and self._per == "step":
            raise ValueError(f"scheduler.per=step: must be epoch, as {kind} follows a metric of the epochs")
        if self._takes_metric and self._end is not None:
            raise ValueError(f"scheduler.end={self._end}: must be null, as {kind} follows a metric alone")

    def notes(self) -> list[str]:
        """What the user should know before the training: that the schedule is longer or shorter."""
        unit = "epochs" if self._per == "epoch" else "steps"
        notes = []
        least = 1 / self._steps_per_epoch
        if self._warmup > 0 and self.warmup_steps == 0:
            notes.append(
                f"scheduler.warmup={self._warmup:g} never acts: it is less than half of the "
                f"{self._steps_per_epoch} steps of an epoch; use scheduler.warmup={least:.4g} or more"
            )
        if not self._ahead.any():
            notes.append("the rate is 0 at every step: nothing is learned")
        if self._end is not None and self._end + 1 < self._units:
            notes.append(
                f"the schedule ends after {self._end} of {self._units} {unit}; "
                f"the rate then stays at {self.last_rate:.3g}"
            )
        if self._end is not None and self._end > self._units:
            notes.append(
                f"the schedule is {self._end} {unit} long, the training only {self._units}: "
                f"it ends at the rate {self.last_rate:.3g}"
            )
        settled = self._ahead[0]
        if not self._takes_metric and self._end is None and (self._ahead == settled).all():
            ahead = _run_ahead(self._scheduler, self._lr, 10 * self._units + 1, None)
            if changed := np.flatnonzero(ahead != ahead[0]).tolist():
                notes.append(
                    f"the rate first changes after {changed[0]} {unit}, the training has {self._units}: "
                    f"it stays at {settled:.3g}"
                )
            elif not isinstance(self._torch_scheduler, ConstantLR):
                notes.append(
                    f"the rate stays at {settled:.3g} in all {self._units} {unit} of the training, and "
                    "long after"
                )
        return notes


def _attach(
    scheduler: Callable[[torch.optim.Optimizer], LRScheduler], lr: float
) -> tuple[LRScheduler, _RateHolder]:
    holder = _RateHolder(lr)
    if default_of(scheduler, "cycle_momentum") is True:
        raise ValueError("scheduler.cycle_momentum=true: must be false, as a schedule sets the rate only")
    try:
        torch_scheduler = copy.deepcopy(scheduler)(holder)  # what a table needs may change with its steps
    except NotImplementedError:
        raise ValueError("scheduler._target_: must be a scheduler, not their base class") from None
    except ZeroDivisionError:
        raise ValueError(
            "scheduler: must not have a phase of length 0, which divides by zero; choose another pct_start "
            "of OneCycleLR, as its rise has length 0 where pct_start * total_steps is 1"
        ) from None
    if not isinstance(torch_scheduler, LRScheduler):
        raise ValueError(
            f"scheduler._target_: must build an LRScheduler, not a {type(torch_scheduler).__name__}"
        )
    return torch_scheduler, holder


def _run_ahead(
    scheduler: Callable[[torch.optim.Optimizer], LRScheduler], lr: float, units: int, end: int | None
) -> NDArray[np.float64]:
    """The rates of the first epochs or steps, up to where they stay the same; constant after `end`."""
    key = _key(scheduler, lr, units, end)
    if key is None or key not in _kept:
        torch_scheduler, holder = _attach(scheduler, lr)
        least = min(
            [units - 1, *(limit for limit in (end, _changes_until(torch_scheduler)) if limit is not None)]
        )
        rates = np.empty(least + 1)
        rates[0] = holder.rate
        for unit in range(1, least + 1):
            holder.step()
            torch_scheduler.step()
            rates[unit] = holder.rate
        if key is None:
            return rates
        while len(_kept) >= KEPT:
            _kept.pop(next(iter(_kept)))
        _kept[key] = rates
    return _kept[key].copy()


_kept: dict[Any, NDArray[np.float64]] = {}


def _changes_until(scheduler: LRScheduler) -> int | None:
    """The epoch or step after which a scheduler of torch's leaves the rate as it is; None: it may go on."""
    if type(scheduler).__module__ != LRScheduler.__module__:  # a class of anybody's own may do otherwise
        return None
    if isinstance(scheduler, (ConstantLR, LinearLR, PolynomialLR)):
        last = scheduler.total_iters
    elif isinstance(scheduler, MultiStepLR):
        last = max(scheduler.milestones, default=0)
    else:
        return None
    return max(0, last) if isinstance(last, int) else None


def _key(
    scheduler: Callable[[torch.optim.Optimizer], LRScheduler], lr: float, units: int, end: int | None
) -> Any:
    """What decides a table of torch's schedulers, or of ours; None: more may."""
    if not isinstance(scheduler, partial) or scheduler.args:
        return None
    module = getattr(scheduler.func, "__module__", "")
    if module != "torch.optim.lr_scheduler" and not module.startswith("sweepwise.scheduler."):
        return None
    plain = (int, float, str, type(None))
    for value in scheduler.keywords.values():
        values = value if isinstance(value, (list, tuple)) else (value,)
        if not all(isinstance(one, plain) for one in values):
            return None
    return scheduler.func, repr(sorted(scheduler.keywords.items())), lr, units, end
