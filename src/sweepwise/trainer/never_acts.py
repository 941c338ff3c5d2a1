"""Notes on settings of which one can never act, because another one or the end comes before it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from sweepwise.early_stop import EarlyStop, sign
from sweepwise.early_stop.after import After
from sweepwise.early_stop.patience import Patience
from sweepwise.improvement import limits
from sweepwise.regularizer import Regularizer
from sweepwise.regularizer.clip_norm import ClipNorm
from sweepwise.regularizer.clip_value import ClipValue
from sweepwise.scheduler import Schedule
from sweepwise.trainer.settings import Settings

LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class _Measured:
    """The epochs after which a metric is measured: every `every`-th, and the last one.

    Attributes:
        every: epochs.
        last: the last epoch, counted from 0.
    """

    every: int
    last: int

    def at(self, epoch: int) -> int:
        """The first one from an epoch on; the epoch itself past the end."""
        return min(-(-(epoch + 1) // self.every) * self.every - 1, max(self.last, epoch))

    def before(self, epoch: int) -> int:
        """The last one before an epoch; -1: there is none."""
        return epoch // self.every * self.every - 1


def never_acting(
    settings: Settings,
    schedule: Schedule,
    regularizers: Sequence[Regularizer],
    early_stop: EarlyStop,
    steps: int,
    steps_per_epoch: int,
    *,
    validated: bool = True,
    optimizer: Callable[..., object] = torch.optim.Optimizer,
) -> list[str]:
    """What a person should know before the training of settings that will have no effect.

    Args:
        settings: how long the training may last, and how often is validated.
        schedule: of its rates.
        regularizers: in the order in which they act.
        early_stop: when to stop.
        steps: of the whole training.
        steps_per_epoch: >= 1.
        validated: whether there is a validation part; without one, nothing is said of rules on its metrics.
        optimizer: the class of it, or what makes it.
    """
    last = -(-steps // steps_per_epoch) - 1
    notes = [
        *_length(settings, steps_per_epoch, last + 1, validated),
        *_clipping(regularizers),
        *_idle(regularizers),
        *_unread_rates(schedule, optimizer),
    ]
    warmup = schedule.warmup_steps // steps_per_epoch
    if isinstance(early_stop, Patience) and (validated or early_stop.metric.startswith("train/")):
        notes += _within_warmup(early_stop, _measured(early_stop.metric, settings, last), warmup)
        notes += _patience(early_stop, _measured(early_stop.metric, settings, last))
        notes += _thresholds(early_stop)
    if isinstance(early_stop, After) and early_stop.epochs > last + 1:
        notes.append(f"early_stop.epochs={early_stop.epochs} never acts: the training has {last + 1} epochs")
    if schedule.plateau is not None and schedule.metric is not None:
        notes += _plateau(schedule, early_stop, _measured(schedule.metric, settings, last), warmup)
    return notes


def _measured(metric: str, settings: Settings, last: int) -> _Measured:
    return _Measured(1 if metric.startswith("train/") else settings.validate_every, last)


def _length(settings: Settings, steps_per_epoch: int, epochs: int, validated: bool) -> Iterator[str]:
    longest = settings.max_epochs * steps_per_epoch
    if settings.max_steps is not None and settings.max_steps > longest:
        needed = -(-settings.max_steps // steps_per_epoch)
        yield (
            f"trainer.max_steps={settings.max_steps} never acts: trainer.max_epochs={settings.max_epochs} "
            f"ends the training after {longest} steps; use trainer.max_epochs={needed}"
        )
    if settings.pause_after is not None and settings.pause_after >= epochs:
        yield f"trainer.pause_after={settings.pause_after} never acts: the training has {epochs} epochs"
    if settings.validate_every > 1 and not validated:
        yield f"trainer.validate_every={settings.validate_every} never acts: there is no validation part"
    elif settings.validate_every >= epochs > 1:
        yield (
            f"trainer.validate_every={settings.validate_every} never acts: only the last of {epochs} epochs "
            "is validated, so the best weights are the last ones"
        )


def _unread_rates(schedule: Schedule, optimizer: Callable[..., object]) -> Iterator[str]:
    """Rates of an optimizer that adapts its own step sizes from the first rate on, and reads no other."""
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Rprop) and schedule.varies:
        yield (
            f"scheduler never acts after the first step: {optimizer.__name__} takes its step sizes from the "
            "first rate and adapts them by itself; choose scheduler=constant"
        )


def _idle(regularizers: Sequence[Regularizer]) -> Iterator[str]:
    """Regularizers of strength 0, and limits beyond any float32."""
    for rule in regularizers:
        key = f"regularizer.{type(rule).__module__.rpartition('.')[2]}"
        if rule.strength and not getattr(rule, rule.strength):
            option = rule.strength.lstrip("_")
            yield f"{key}.{option}=0 never acts: use a larger one, or leave the regularizer out"
        if rule.limit_of and (limit := getattr(rule, rule.limit_of)) >= LARGEST:
            option = rule.limit_of.lstrip("_")
            yield f"{key}.{option}={limit:g} never acts: no float32 exceeds it; use a smaller one"


def _clipping(regularizers: Sequence[Regularizer]) -> Iterator[str]:
    """A limit on components that the norm keeps already."""
    for index, rule in enumerate(regularizers):
        before = [one.max_norm for one in regularizers[:index] if isinstance(one, ClipNorm)]
        if isinstance(rule, ClipValue) and before and min(before) <= rule.limit:
            yield (
                f"regularizer.clip_value.limit={rule.limit:g} never acts: no component exceeds the norm of "
                f"{min(before):g} to which clip_norm scales before; use a smaller limit, or clip_value first"
            )


def _within_warmup(rule: Patience, measured: _Measured, warmup: int) -> Iterator[str]:
    """Early stopping that may come before the schedule has begun."""
    stop = measured.at(max(measured.at(0) + rule.patience, rule.min_epochs - 1))
    if stop < min(warmup, measured.last):
        yield (
            f"early_stop.patience={rule.patience}: may end the training within the {warmup} epochs of "
            f"warm-up; use early_stop.min_epochs={warmup + 1}"
        )


def _patience(rule: Patience, measured: _Measured) -> Iterator[str]:
    first = measured.at(0)
    least = first + rule.patience + 1
    stop = measured.at(max(first + rule.patience, rule.min_epochs - 1))
    if stop >= measured.last and rule.least_epochs <= measured.last + 1:
        most = measured.before(measured.last) - first
        ways = ["early_stop=none", *([f"early_stop.patience={most} or less"] if most > 0 else [])]
        yield (
            f"early_stop.patience={rule.patience} never acts: {rule.metric} is measured from epoch {first} "
            f"on, and epoch {measured.last} is the last; use {', or '.join(reversed(ways))}"
        )
    elif 0 < rule.min_epochs <= least and rule.stopping_threshold is rule.divergence_threshold is None:
        yield (
            f"early_stop.min_epochs={rule.min_epochs} never acts: early_stop.patience={rule.patience} ends "
            f"no training before {least} epochs; use early_stop.min_epochs={least + 1} or more"
        )


def _thresholds(rule: Patience) -> Iterator[str]:
    """Thresholds beyond what the metric can be."""
    low, high = limits(rule.metric)
    best, worst = (low, high) if sign(rule.metric, rule.mode) == 1 else (high, low)
    direction = 1 if best < worst else -1
    stopping, divergence = rule.stopping_threshold, rule.divergence_threshold
    always = f"never acts: {rule.metric} is always in [{low:g}, {high:g}]"
    if stopping is not None and direction * stopping < direction * best:
        yield f"early_stop.stopping_threshold={stopping:g} {always}"
    if divergence is not None and direction * divergence >= direction * worst:
        yield f"early_stop.divergence_threshold={divergence:g} {always}"
    if rule.min_delta >= high - low:
        yield (
            f"early_stop.min_delta={rule.min_delta:g}: no value of {rule.metric}, which is always in "
            f"[{low:g}, {high:g}], improves on another by so much; use a smaller one"
        )


def _plateau(schedule: Schedule, early_stop: EarlyStop, measured: _Measured, first: int) -> Iterator[str]:
    """Whether a plateau acts, after the first epoch that it counts, before the training ends."""
    assert schedule.plateau is not None
    rate, patience = schedule.last_rate, schedule.plateau.patience
    if schedule.plateau.lowered(rate) == rate:
        yield f"the plateau schedule never acts: scheduler.min_lr and eps allow no rate below {rate:g}"
        return
    begin = measured.at(first)
    drop = measured.at(begin + patience + 1)
    stop, why, ways = measured.last, f"the training has {measured.last + 1} epochs", ["a longer training"]
    if isinstance(early_stop, Patience) and early_stop.metric == schedule.metric:
        early = measured.at(max(begin + early_stop.patience, early_stop.min_epochs - 1))
        if early < stop:
            stop, why = early, f"early stopping ends the training after {early - begin}"
            ways = ["early_stop=none"]
            ways += [f"early_stop.patience={drop - begin + 1} or more"] if drop < measured.last else []
    if drop >= stop:
        most = measured.before(stop) - begin - 1
        ways += [f"scheduler.patience={most} or less"] if most >= 0 else []
        yield (
            f"the plateau schedule never acts: it lowers the rate after {drop - begin} epochs without "
            f"improvement of {schedule.metric}, and {why}; use {', or '.join(reversed(ways))}"
        )
