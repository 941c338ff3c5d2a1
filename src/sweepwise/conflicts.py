"""Settings that are valid one by one but cannot be combined, wherever a run is composed."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np
import torch

from sweepwise.early_stop import EarlyStop, sign
from sweepwise.early_stop.never import Never
from sweepwise.errors import UsageError
from sweepwise.parts import Parts
from sweepwise.regularizer import acting
from sweepwise.regularizer.weight_decay import WeightDecay
from sweepwise.store.request import keys

DEFAULT = Never()


def refuse_conflicts(parts: Parts, chosen: Collection[str]) -> Parts:
    """Refuses settings that cannot be combined; returns the parts, with notes about what has no effect.

    Args:
        parts: all parts of a run.
        chosen: what a person has set: overrides of the command line, or names of arguments in Python.

    Raises:
        UsageError: with every conflict.
    """
    faults, notes = [], list(parts.notes)
    data, schedule = parts.data, parts.schedule
    early_stop = _for_want_of_validation(parts, chosen, notes)
    for key, metric, mode in (
        ("early_stop", early_stop.metric, early_stop.mode),
        ("scheduler", schedule.metric, schedule.mode),
    ):
        if metric is None:
            continue
        if metric not in parts.logged:
            faults.append(f"{key}.metric={metric}: is never logged{_instead(key, metric, parts)}")
        elif mode not in ("auto", "min", "max"):
            faults.append(f"{key}.mode={mode}: must be one of auto, min, max")
        elif sign(metric, mode) != sign(metric, "auto"):
            better = "min" if mode == "max" else "max"
            faults.append(f"{key}.mode={mode}: does not fit {metric}; use {key}.mode={better}")
        else:
            faults += _undefined(key, metric, parts)
    epochs = -(-parts.steps // data.steps_per_epoch)
    if early_stop.least_epochs > epochs:
        least = early_stop.least_epochs
        by_min = getattr(early_stop, "min_epochs", 0) == least
        key, value = ("min_epochs", least) if by_min else ("patience", least - 1)
        rule = f"early_stop.{key}={value}: must be below the {epochs} epochs of the training"
        if any(override.startswith("early_stop") for override in chosen):
            faults.append(f"{rule}, or use early_stop=none")
        else:
            notes.append(f"early stopping has no effect: {rule}")
    decay = max(group.get("weight_decay", 0) for group in parts.learner.optimizer.optimizer.param_groups)
    if decay and any(isinstance(regularizer, WeightDecay) for regularizer in parts.regularizers):
        faults.append(
            f"optimizer.weight_decay={decay:g}: must be 0 with regularizer=weight_decay, since the weights "
            "would decay twice; set one of the two"
        )
    kinds = Counter(type(regularizer).__name__ for regularizer in acting(parts.regularizers, "examples"))
    for kind, times in kinds.items():
        if times > 1:
            faults.append(
                f"regularizer: {kind} is there {times} times, which would draw the same random numbers; "
                "keep one of them"
            )
    if faults:
        raise UsageError(faults)
    return replace(parts, notes=notes, early_stop=early_stop)


def _for_want_of_validation(parts: Parts, chosen: Collection[str], notes: list[str]) -> EarlyStop:
    """The rule of early stopping; without a validation part, none in place of a default one that needs it."""
    rule = parts.early_stop
    if len(parts.data.validation.y) or not (rule.metric or "").startswith("val/"):
        return rule
    matters = rule.least_epochs > 0 or rule.metric != DEFAULT.metric
    if matters and any(key.startswith("early_stop") for key in keys([*chosen])):
        return rule
    lost = ", and early stopping has no effect" if rule.least_epochs else ""
    notes.append(f"there is no validation part: the best weights are the last ones{lost}")
    return Never(metric=None)


def _undefined(key: str, metric: str, parts: Parts) -> Iterator[str]:
    """A fault if a metric has no value whatever the outputs, such as R2 where all targets are equal."""
    family, _, name = metric.partition("/")
    if parts.data.classes:  # each of its metrics has one
        return
    part, y = (
        ("training", parts.data.train.y) if family == "train" else ("validation", parts.data.validation.y)
    )
    sums = parts.task.sums(torch.zeros_like(y)[None, :, None], y[None]).numpy(force=True)
    if np.isnan(parts.task.finish(np.zeros(1), sums / len(y))[name][0]):
        larger = ", or a larger data.validation" if family == "val" else ""
        yield (
            f"{key}.metric={metric}: is not defined on the {part} part, whose targets are all equal "
            f"({len(y)}); use {key}.metric={family}/loss{larger}"
        )


def _instead(key: str, metric: str, parts: Parts) -> str:
    """What to use in place of a metric that is never logged."""
    if len(parts.data.validation.y) or not metric.startswith("val/"):
        return f"; use {', '.join(parts.logged)}, or add it with trainer.metrics"
    trained = metric.replace("val/", "train/", 1)
    other = trained if trained in parts.logged else parts.logged[0]
    without = {"early_stop": "early_stop=none", "scheduler": "scheduler=constant"}[key]
    return f", as there is no validation part (data.validation=0); use {key}.metric={other}, or {without}"
