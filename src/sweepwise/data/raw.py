"""What raw arrays must be: numbers, a target for each example, and labels that are classes."""

import sys
from numbers import Real

import numpy as np
import torch

REAL = "buif"  # kinds of numpy's types that hold real numbers
MISSING = ("None", "nan", "<NA>", "NaT")  # how objects that stand for a missing value are written


def array(name: str, values: object) -> np.ndarray:
    """Values as numpy has them; a `np.memmap` stays in its file.

    Args:
        name: of the values, for messages.
        values: an array, a tensor on any device, or what `np.asarray` takes.

    Raises:
        ValueError: numpy cannot hold them, or some are masked.

    Example:
        >>> array("x", torch.ones(2, 1, requires_grad=True)).tolist()
        [[1.0], [1.0]]
    """
    if isinstance(values, np.memmap):
        return values
    ma = sys.modules.get("numpy.ma")  # which takes 10 ms to import; before it is, nothing can be masked
    if ma is not None and isinstance(values, ma.MaskedArray) and ma.is_masked(values):
        raise ValueError(
            f"{name}: {ma.count_masked(values)} values are masked; use {name}.filled(VALUE), or leave "
            "their examples out"
        )
    try:
        return np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: must be an array of numbers ({error})") from error


def refuse_features(name: str, x: np.ndarray) -> None:
    """Refuses features that are not real numbers, (examples, *features).

    Raises:
        ValueError: see above.
    """
    if x.ndim < 2:
        way_out = f"; use np.asarray({name}).reshape(-1, 1)" if x.ndim else ""
        raise ValueError(f"{name}: must have the shape (examples, *features), not {x.shape}{way_out}")
    if x.dtype.kind not in REAL:
        raise ValueError(f"{name}: must hold real numbers, and holds {x.dtype}{_way_out(name, x)}")
    if 0 in x.shape[1:]:
        raise ValueError(f"{name}: must have at least one feature, and has the shape {x.shape}")


def refuse_targets(name: str, y: np.ndarray, examples: int, classes: int) -> None:
    """Refuses targets that are not one finite number, or one class from 0 to `classes` - 1, for each example.

    Args:
        name: of the targets, for messages.
        y: the targets.
        examples: how many there must be.
        classes: number of classes; 0: real targets.

    Raises:
        ValueError: see above.

    Example:
        >>> refuse_targets("y", np.array([-1, 1, 1]), examples=3, classes=2)
        Traceback (most recent call last):
            ...
        ValueError: y: must hold whole numbers from 0 to 1 with classes=2, and holds -1; use ...
    """
    if y.ndim != 1:
        if y.size == examples and y.ndim:
            way_out = f"; use np.asarray({name}).reshape(-1)"
        elif y.shape == (examples, classes):
            way_out = f"; use np.asarray({name}).argmax(1) if its rows are one-hot"
        else:
            way_out = ""
        raise ValueError(f"{name}: must have the shape ({examples},), not {y.shape}{way_out}")
    if len(y) != examples:
        raise ValueError(f"{name}: must have a target for each of the {examples} examples, and has {len(y)}")
    if missing := _missing(y):
        raise ValueError(
            f"{name}: {missing} of {examples} targets are missing or not finite; leave their examples out"
        )
    if not classes and y.dtype.kind not in REAL:
        raise ValueError(
            f"{name}: must hold real numbers with classes=0, and holds {y.dtype}{_way_out(name, y)}"
        )
    if classes and examples:
        _refuse_labels(name, y, classes)


def _refuse_labels(name: str, y: np.ndarray, classes: int) -> None:
    numeric = y.dtype.kind in REAL
    whole = numeric and bool((y == np.floor(y)).all())
    if whole and y.min() >= 0 and y.max() < classes:
        return
    sortable, given = y, name
    if y.dtype.kind == "O":
        numbers = all(isinstance(label, Real) for label in y)  # as text, 10 would come before 2
        sortable = np.asarray(list(y)) if numbers else y.astype(str)
        given = f"np.asarray(list({name}))" if numbers else f"np.asarray({name}, str)"
    labels = np.unique(sortable)
    if name != "y":  # numbered by itself, it could get other numbers than y
        way_out = "the numbers that y has for the same classes"
    elif len(labels) <= classes or not numeric:
        counted = f", and classes={len(labels)}" if len(labels) != classes else ""
        way_out = f"np.unique({given}, return_inverse=True)[1], which numbers them in sorted order{counted}"
    elif whole and y.min() >= 0:
        way_out = f"classes={int(y.max()) + 1}"
    else:
        way_out = "classes=0 if they are no classes, but real numbers"
    bad = y[(y != np.floor(y)) | (y < 0) | (y >= classes)][0] if numeric else f"{y.dtype} such as {y[0]}"
    raise ValueError(
        f"{name}: must hold whole numbers from 0 to {classes - 1} with classes={classes}, "
        f"and holds {bad}; use {way_out}"
    )


def _missing(values: np.ndarray) -> int:
    """How many values are missing or not finite."""
    if values.dtype.kind in "fc":
        return int(np.sum(~np.isfinite(values)))
    if values.dtype.kind in "mM":
        return int(np.sum(np.isnat(values)))
    if values.dtype.kind == "O":
        return sum(not isinstance(value, str) and str(value) in MISSING for value in values)
    return 0


def _way_out(name: str, values: np.ndarray) -> str:
    """What makes numbers of objects, if they are such."""
    if values.dtype.kind != "O":
        return ""
    try:
        values.astype(float)
    except (TypeError, ValueError):
        return ""
    return f"; use np.asarray({name}, float)"
