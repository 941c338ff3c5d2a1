"""Metrics of a classifier, as sums over examples that are divided once at the end."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sweepwise.errors import did_you_mean
from sweepwise.task.protocol import Means

PLAIN = ("accuracy", "balanced_accuracy", "ece")
TOP = 5  # the K of the topK that is measured at the end, with more classes
CALIBRATION_BINS = 15


class Metric(NamedTuple):
    """A metric as sums over examples.

    Attributes:
        terms: number of sums.
        sums: outputs (runs, examples, classes), targets (runs, examples) -> (runs, terms) float64.
        finish: means of the terms, (runs, terms) -> the metric, (runs,).
    """

    terms: int
    sums: Callable[[Tensor, Tensor], Tensor]
    finish: Callable[[Means], Means]


def sums(metrics: Mapping[str, Metric], outputs: Tensor, targets: Tensor) -> Tensor:
    """The sums of all these metrics, (runs, terms)."""
    nothing = torch.empty(len(outputs), 0, dtype=torch.float64, device=outputs.device)
    return torch.cat([nothing, *(metric.sums(outputs, targets) for metric in metrics.values())], 1)


def parts(metrics: Mapping[str, Metric], terms: Means) -> dict[str, Means]:
    """The terms of each metric, (runs, terms)."""
    ends = np.cumsum([metric.terms for metric in metrics.values()])
    return dict(zip(metrics, np.split(terms, ends, axis=1)[: len(metrics)], strict=True))


def finish(metrics: Mapping[str, Metric], means: Means) -> dict[str, Means]:
    """The metrics, each (runs,), from the means of their terms."""
    return {name: metrics[name].finish(part) for name, part in parts(metrics, means).items()}


def names(classes: int) -> list[str]:
    """The metrics that are measured at the end."""
    return [*PLAIN, f"top{TOP}"] if classes > TOP else list(PLAIN)


def metric_named(name: str, classes: int) -> Metric:
    """A metric by its name.

    Raises:
        ValueError: unknown, or a topK whose K does not fit the classes.
    """
    if top := re.fullmatch(r"top(\d+)", name):
        k = int(top[1])
        if not 1 <= k < classes:
            raise ValueError(f"trainer.metrics={name}: must have a K from 1 to {classes - 1}")
        return Metric(1, partial(_within_top, k), _first)
    if name == "accuracy":
        return Metric(1, _right, _first)
    if name == "balanced_accuracy":
        return Metric(
            2 * classes, partial(_right_by_class, classes), lambda means: np.nanmean(recall(means), 1)
        )
    if name == "ece":
        return Metric(CALIBRATION_BINS, _gaps, lambda means: np.abs(means).sum(1))
    raise ValueError(f"trainer.metrics={name}: unknown; {did_you_mean(name, [*names(classes), 'loss'])}")


def _first(means: Means) -> Means:
    return means[:, 0]


def _right(outputs: Tensor, targets: Tensor) -> Tensor:
    right = outputs.max(-1).indices == targets
    return right.sum(1, keepdim=True, dtype=torch.float64)


def _within_top(k: int, outputs: Tensor, targets: Tensor) -> Tensor:
    """The number of examples whose class is among the k largest outputs; NaN never helps."""
    own, labels = outputs.gather(-1, targets[..., None]), targets[..., None]
    order = torch.arange(outputs.shape[-1], device=outputs.device)
    behind = (own > outputs) | ((own == outputs) & (labels <= order))  # itself among them
    return (behind.sum(-1) > outputs.shape[-1] - k).sum(1, keepdim=True, dtype=torch.float64)


def _right_by_class(classes: int, outputs: Tensor, targets: Tensor) -> Tensor:
    """The numbers of wrong and right predictions for each class, (runs, classes * 2)."""
    right = outputs.max(-1).indices == targets
    return _counts(2 * targets + right, 2 * classes)


def recall(means: Means) -> Means:
    """The recall of each class, (runs, classes), from the sums of balanced accuracy; NaN without examples."""
    missed, hit = np.moveaxis(means.reshape(len(means), -1, 2), 2, 0)
    with np.errstate(invalid="ignore"):
        return hit / (missed + hit)


def _mean_recall(means: Means) -> Means:
    return np.nanmean(recall(means), 1)


def _gaps(outputs: Tensor, targets: Tensor) -> Tensor:
    """Correctness minus confidence, summed in each bin ((b - 1) / 15, b / 15] of confidence."""
    runs = len(outputs)
    confidence = outputs.double().softmax(-1).amax(-1)
    gaps = (outputs.max(-1).indices == targets).double() - confidence
    edges = torch.arange(1, CALIBRATION_BINS, device=outputs.device, dtype=torch.float64) / CALIBRATION_BINS
    bins = _numbered_by_run(torch.bucketize(confidence, edges), CALIBRATION_BINS)
    return gaps.new_zeros(runs * CALIBRATION_BINS).index_add_(0, bins, gaps.reshape(-1)).view(runs, -1)


def confusion(classes: int) -> Metric:
    """The confusion matrix: examples by true class and prediction, terms (runs, classes * classes)."""

    def counts(outputs: Tensor, targets: Tensor) -> Tensor:
        return _counts(classes * targets + outputs.max(-1).indices, classes**2)

    return Metric(classes**2, counts, _first)


def _counts(cells: Tensor, number: int) -> Tensor:
    """The count of each cell 0..number-1 in each run: (runs, examples) -> (runs, number)."""
    counts = torch.bincount(_numbered_by_run(cells, number), minlength=len(cells) * number)
    return counts.double().view(len(cells), number)


def _numbered_by_run(cells: Tensor, number: int) -> Tensor:
    """The cells of all runs in one row, with different numbers for each run."""
    return (cells + number * torch.arange(len(cells), device=cells.device)[:, None]).reshape(-1)
