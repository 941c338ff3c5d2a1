"""Reads a data set from the arrays of an npz file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sweepwise.data.arrays import read_npz
from sweepwise.data.channels import Channels, channels_first
from sweepwise.data.columns import Table, Target
from sweepwise.data.dataset import Arrays
from sweepwise.data.reading import Reading
from sweepwise.data.targets import Task, find_targets
from sweepwise.errors import did_you_mean

SPARSE = {"indices", "indptr", "shape", "data"}  # the arrays of scipy.sparse.save_npz


def read_arrays(
    where: str, path: Path, target: str | None, channels: Channels | None
) -> tuple[str, np.ndarray, np.ndarray, list[str]]:
    """Reads features `x`, or the only array beside the targets.

    Args:
        where: the config key and value, for messages.
        path: of the file.
        target: array of the targets; None: `y`.
        channels: where the channels of images and sequences are.

    Returns:
        Name of the targets; x: (examples, ...), real; y: (examples,); and notes.

    Raises:
        ValueError: what is wrong with the file.
    """
    arrays = read_npz(where, path)
    named = "y" if target is None else target
    if named not in arrays:
        hint = _absent(named, arrays) if target is None else did_you_mean(named, arrays)
        raise ValueError(f"data.target={named}: no array of {path}; {hint}")
    y = arrays.pop(named)
    if "x" not in arrays and len(arrays) != 1:
        raise ValueError(
            f"{where}: must have the features as array 'x'; there are {', '.join(arrays) or 'none'}"
        )
    x = arrays["x"] if "x" in arrays else next(iter(arrays.values()))
    if x.dtype.kind not in "buif" or x.ndim < 2 or y.dtype.kind not in "buifU" or y.shape != x.shape[:1]:
        raise ValueError(
            f"{where}: must hold real features (examples, ...) and a target for each: found {x.dtype} "
            f"{x.shape} and {y.dtype} {y.shape}{_way_out(x.dtype)}"
        )
    x, notes = channels_first(where, x, channels)
    return named, x, y, notes


def _absent(named: str, arrays: Mapping[str, np.ndarray]) -> str:
    """What to do where the array of targets is not there."""
    there = f"there is {', '.join(arrays) or 'none'}"
    if arrays.keys() >= SPARSE:
        return f"{there}, scipy's sparse matrix; save x=matrix.toarray() and y by np.savez instead"
    parts = [name for name in arrays if name.lower().endswith(("_train", "_test"))]
    if parts:
        return (
            f"{there}; put the parts together as x and y; the split is made by data.validation and data.test"
        )
    rule = "features are expected as x and targets as y"
    return f"{there}; {rule}; data.target=NAME names another array of targets"


def _way_out(kind: np.dtype) -> str:
    """What to do about numbers that are not real."""
    if kind.kind == "V":
        return "; numbers of 16 bits such as bfloat16 must be saved as float32"
    if kind.kind == "c":
        return "; save real and imaginary parts as two features"
    return ""


def of_arrays(
    where: str,
    path: Path,
    named: str,
    x: np.ndarray,
    y: np.ndarray,
    task: Task,
    notes: Sequence[str],
    channels: Channels | None,
) -> Arrays:
    """The data set of arrays of which no value is missing.

    Raises:
        ValueError: some are missing or infinite.
    """
    if bad := int((~np.isfinite(x)).sum()):
        way = "; data.missing=drop, median, most_frequent or indicator takes missing ones"
        way = way if x.ndim == 2 else "; correct them"
        raise ValueError(f"{where}: {bad} of the {x.size} features are missing or not finite{way}")
    targets = find_targets(f"target {named!r}", y, task)
    return targets.with_features(path.name, x, tuple(notes), Reading(named, channels=channels))


def as_table(named: str, x: np.ndarray, y: np.ndarray) -> Table:
    """The columns of a matrix, which are called by their numbers from 0."""
    missing = np.zeros(len(y), bool)
    if y.dtype.kind in "Uf":
        missing = y == "" if y.dtype.kind == "U" else np.isnan(y)
    features = {str(place): x[:, place].astype(np.float64) for place in range(x.shape[1])}
    return Table(named, Target(y, missing), features, [])
