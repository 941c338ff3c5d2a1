"""What a column of targets means: classes, or real numbers."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sweepwise.data.dataset import Arrays

Task = Literal["auto", "classification", "regression"]

FEW = 20  # different whole numbers are classes, however few examples there are
SHARE = 20  # beyond that, at most one in so many examples may bring a new number
TOLD = 10  # labels that a note lists


@dataclass(frozen=True, eq=False)
class Targets:
    """Targets as a network takes them.

    Attributes:
        y: (examples,), int64 classes or float64.
        classes: number of classes; 0 for regression.
        note: which of the two it is, why, and which class is which.
    """

    y: np.ndarray
    classes: int
    note: str

    def with_features(self, name: str, x: np.ndarray, notes: tuple[str, ...] = ()) -> Arrays:
        """The data set of these targets."""
        return Arrays(name, x, self.y, self.classes, notes=(self.note, *notes))


def find_targets(where: str, values: np.ndarray, task: Task) -> Targets:
    """Finds out what targets mean.

    Numbers that are not whole, or that are too many to be names of classes, are a regression; text, truth
    values and few whole numbers are classes, which are numbered in sorted order.

    Args:
        where: what holds them, for messages.
        values: (examples,) text, truth values or numbers.
        task: 'auto' finds out; else what it is.

    Raises:
        ValueError: some are missing, they are all the same, or they cannot be what `task` says.
    """
    missing = values == "" if values.dtype.kind == "U" else ~np.isfinite(values)
    if missing.any():
        raise ValueError(f"{where}: {missing.sum()} of {len(values)} values are missing or not finite")
    if not len(values):
        raise ValueError(f"{where}: has no values")
    labels, y = np.unique(values, return_inverse=True)
    if len(labels) < 2:
        raise ValueError(f"{where}: holds one value only, {_shown(labels[0])}; there is nothing to learn")
    real, why = _is_real(values, labels)
    if task == "auto" and values.dtype.kind == "U" and len(labels) > max(FEW, len(values) // 2):
        raise ValueError(
            f"{where}: holds {len(labels)} different texts in {len(values)} examples, too many to be "
            "classes; data.target names another one, data.task=classification insists"
        )
    if task == "regression" and values.dtype.kind == "U":
        raise ValueError(f"data.task=regression: {where} holds text such as {_shown(labels[0])}")
    why = f"since {why}" if task == "auto" else "as data.task says"
    if real if task == "auto" else task == "regression":
        return Targets(values.astype(np.float64), 0, f"{where}: regression, {why}")
    return Targets(y.astype(np.int64), len(labels), f"{where}: {len(labels)} classes, {why}: {_told(labels)}")


def _is_real(values: np.ndarray, labels: np.ndarray) -> tuple[bool, str]:
    """Whether targets look like real numbers, and why."""
    if values.dtype.kind in "Ub":
        return False, "it holds text" if values.dtype.kind == "U" else "it holds truth values"
    if (broken := labels[labels != np.floor(labels)]).size:
        return True, f"it holds numbers that are not whole, such as {_shown(broken[0])}"
    most = max(FEW, len(values) // SHARE)
    if len(labels) > most:
        return True, f"it holds {len(labels)} different numbers, more than {most}"
    return False, "it holds few different whole numbers"


def _told(labels: np.ndarray) -> str:
    if labels.dtype.kind in "iuf" and np.array_equal(labels, np.arange(len(labels))):
        return "as they are"
    told = ", ".join(f"{number} = {_shown(label)}" for number, label in enumerate(labels[:TOLD]))
    return told + (", ..." if len(labels) > TOLD else "")


def _shown(value: np.generic) -> str:
    return f"{value:.15g}" if isinstance(value, np.floating) else str(value)
