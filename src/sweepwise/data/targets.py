"""Decides whether targets are classes or real numbers."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sweepwise.data.dataset import Arrays

Task = Literal["auto", "classification", "regression"]

MOST_CLASSES = 20  # up to so many different whole numbers are classes, however few examples there are
EXAMPLES_PER_CLASS = 20  # with more examples, so many for each different number still make them classes
LISTED_LABELS = 10  # labels that a note lists


@dataclass(frozen=True, eq=False)
class Targets:
    """Targets in the form that a network is trained on.

    Attributes:
        y: (examples,), int64 classes or float64.
        classes: number of classes; 0 for regression.
        note: says which of the two they are, why, and the label of each class.
    """

    y: np.ndarray
    classes: int
    note: str

    def with_features(self, name: str, x: np.ndarray, notes: tuple[str, ...] = ()) -> Arrays:
        """The data set of these targets."""
        return Arrays(name, x, self.y, self.classes, notes=(self.note, *notes))


def find_targets(where: str, values: np.ndarray, task: Task) -> Targets:
    """Decides whether targets are classes or real numbers.

    Text, truth values and few different whole numbers are classes, numbered in sorted order. Numbers that are
    not whole, or too many different ones, are a regression.

    Args:
        where: what holds the targets, for messages.
        values: (examples,) text, truth values or numbers.
        task: what the targets are; 'auto': it is found out.

    Raises:
        ValueError: some are missing, all are the same, or they cannot be what `task` says.
    """
    missing = values == "" if values.dtype.kind == "U" else ~np.isfinite(values)
    if missing.any():
        raise ValueError(f"{where}: {missing.sum()} of {len(values)} values are missing or not finite")
    if not len(values):
        raise ValueError(f"{where}: has no values")
    labels, y = np.unique(values, return_inverse=True)
    if len(labels) < 2:
        raise ValueError(f"{where}: must hold two values or more, and holds {_shown(labels[0])} only")
    real, why = _is_real(values, labels)
    if task == "auto" and values.dtype.kind == "U" and len(labels) > max(MOST_CLASSES, len(values) // 2):
        raise ValueError(
            f"{where}: holds {len(labels)} different texts in {len(values)} examples, too many to be "
            "classes; choose another column by data.target, or set data.task=classification to use it anyway"
        )
    if task == "regression" and values.dtype.kind == "U":
        raise ValueError(
            f"data.task=regression: {where} must hold numbers, and holds text such as {_shown(labels[0])}; "
            "use data.task=classification"
        )
    why = f"since {why}" if task == "auto" else "as data.task says"
    if real if task == "auto" else task == "regression":
        return Targets(values.astype(np.float64), 0, f"{where}: regression, {why}")
    return Targets(
        y.astype(np.int64), len(labels), f"{where}: {len(labels)} classes, {why}: {_listed(labels)}"
    )


def _is_real(values: np.ndarray, labels: np.ndarray) -> tuple[bool, str]:
    """Whether targets are real numbers rather than classes, and why."""
    if values.dtype.kind in "Ub":
        return False, "it holds text" if values.dtype.kind == "U" else "it holds truth values"
    if (broken := labels[labels != np.floor(labels)]).size:
        return True, f"it holds numbers that are not whole, such as {_shown(broken[0])}"
    most = max(MOST_CLASSES, len(values) // EXAMPLES_PER_CLASS)
    if len(labels) > most:
        return True, f"it holds {len(labels)} different numbers, more than {most}"
    return False, "it holds few different whole numbers"


def _listed(labels: np.ndarray) -> str:
    if labels.dtype.kind in "iuf" and np.array_equal(labels, np.arange(len(labels))):
        return "as they are"
    listed = ", ".join(f"{number} = {_shown(label)}" for number, label in enumerate(labels[:LISTED_LABELS]))
    return listed + (", ..." if len(labels) > LISTED_LABELS else "")


def _shown(value: np.generic) -> str:
    return f"{value:.15g}" if isinstance(value, np.floating) else str(value)
