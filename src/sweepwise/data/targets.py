"""Decides whether targets are classes or real numbers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

import numpy as np

from sweepwise.data.columns import Target, Text, Values, shown
from sweepwise.data.dataset import Arrays
from sweepwise.data.reading import NUMBERS, Reading

Task = Literal["auto", "classification", "regression"]
Label = bool | int | float | str

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
        labels: what stood in the data for each class; () for regression.
    """

    y: np.ndarray
    classes: int
    note: str
    labels: tuple[Label, ...] = ()

    def with_features(
        self, name: str, x: np.ndarray, notes: tuple[str, ...] = (), reading: Reading = NUMBERS
    ) -> Arrays:
        """The data set of these targets."""
        return Arrays(
            name, x, self.y, self.classes, notes=(self.note, *notes), labels=self.labels, reading=reading
        )


def find_targets(where: str, values: Values, task: Task) -> Targets:
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
    if isinstance(values, Text):
        missing, labels, y = values.places < 0, np.array(values.words, object), values.places
    else:
        missing = values == "" if values.dtype.kind == "U" else ~np.isfinite(values)
        labels, y = np.unique(values, return_inverse=True)
    if missing.any():
        raise ValueError(f"{where}: {missing.sum()} of {len(values)} values are missing or not finite")
    if not len(values):
        raise ValueError(f"{where}: has no values")
    if len(labels) < 2:
        raise ValueError(f"{where}: must hold two values or more, and holds {_shown(labels[0])} only")
    words = labels.dtype.kind in "OU"
    real, why = _is_real(labels, len(values))
    if task == "auto" and words and len(labels) > max(MOST_CLASSES, len(values) // 2):
        raise ValueError(
            f"{where}: holds {len(labels)} different texts in {len(values)} examples, too many to be "
            "classes; choose another column by data.target, or set data.task=classification to use it anyway"
        )
    if task == "regression" and words:
        raise ValueError(
            f"data.task=regression: {where} must hold numbers, and holds text such as {_shown(labels[0])}; "
            "use data.task=classification"
        )
    why = f"since {why}" if task == "auto" else "as data.task says"
    if not isinstance(values, Text) and (real if task == "auto" else task == "regression"):
        return Targets(values.astype(np.float64), 0, f"{where}: regression, {why}")
    note = f"{where}: {len(labels)} classes, {why}: {_listed(labels)}"
    return Targets(y.astype(np.int64), len(labels), note, tuple(labels.tolist()))


def find_in_table(where: str, target: Target, task: Task) -> Targets:
    """The targets of a table: as `find_targets`, but labels that are spelled differently stay different.

    A csv file may have 01 and 1, or 1.1 and 1.10, which are the same numbers and rarely the same label.

    Args:
        where: what holds the targets, for messages.
        target: none of it missing.
        task: what the targets are; 'auto': it is found out.

    Raises:
        ValueError: see `find_targets`.
    """
    if target.cells is None or isinstance(target.values, Text):
        return find_targets(where, target.values, task)
    numbers, targets = 1, None
    if len(target.values) and (target.values != target.values[0]).any():
        targets = find_targets(where, target.values, task)
        if not targets.classes:
            return targets
        numbers = targets.classes
    if not (same := same_number(target.cells.spellings(), numbers)):
        return targets or find_targets(where, target.values, task)
    spelled = find_targets(where, target.cells.text(where, "of the target"), task)
    why = f"labels are text, as {' and '.join(same)} would be the same number"
    return replace(spelled, note=f"{spelled.note}; {why}")


def same_number(spellings: Sequence[str], numbers: int) -> Sequence[str]:
    """Spellings that are the same number and hardly mean the same label; () if there are none.

    1 and 1.0 do mean the same; 1 and 01, or 1.1 and 1.10, do not.

    Args:
        spellings: all that a column has, each once.
        numbers: how many different numbers were read from them.

    Example:
        >>> same_number(["2", "1", "1.0", "+1"], 2), same_number(["01", "2", "1"], 2)
        ((), ['01', '1'])
    """
    values: dict[Decimal, list[str]] = {}
    for word in spellings:
        values.setdefault(Decimal(word), []).append(word)
    for words in values.values():
        if len(words) > 1 and any(re.match(r"[+-]?0[0-9]|.*\.[0-9]*[1-9]0*$", word) for word in words):
            return words[:2]
    if len(values) == numbers:
        return ()
    merged: dict[float, list[str]] = {}  # float64 has 53 bits; numbers with more may be the same in it
    for words in values.values():
        merged.setdefault(float(words[0]), []).append(words[0])
    return next((words[:2] for words in merged.values() if len(words) > 1), ())


def _is_real(labels: np.ndarray, examples: int) -> tuple[bool, str]:
    """Whether targets are real numbers rather than classes, and why."""
    if labels.dtype.kind in "OUb":
        return False, "it holds truth values" if labels.dtype.kind == "b" else "it holds text"
    if (broken := labels[labels != np.floor(labels)]).size:
        return True, f"it holds numbers that are not whole, such as {_shown(broken[0])}"
    most = max(MOST_CLASSES, examples // EXAMPLES_PER_CLASS)
    if len(labels) > most:
        return True, f"it holds {len(labels)} different numbers, more than {most}"
    return False, "it holds few different whole numbers"


def _listed(labels: np.ndarray) -> str:
    if labels.dtype.kind in "iuf" and np.array_equal(labels, np.arange(len(labels))):
        return "as they are"
    listed = ", ".join(f"{number} = {_shown(label)}" for number, label in enumerate(labels[:LISTED_LABELS]))
    return listed + (", ..." if len(labels) > LISTED_LABELS else "")


def _shown(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, np.floating) else shown(str(value))
