"""Your own table: a csv, parquet or npz file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sweepwise.data.arrays import read_npz
from sweepwise.data.columns import Columns, read_csv, read_parquet
from sweepwise.data.dataset import Arrays
from sweepwise.data.limits import refuse_larger
from sweepwise.data.targets import Task, find_targets
from sweepwise.errors import did_you_mean

MOST_CATEGORIES = 100


def table(
    *,
    path: str,
    target: str | None = None,
    task: Task = "auto",
    drop: Sequence[str] = (),
    delimiter: str = ",",
) -> Arrays:
    """Reads a table; finds out whether its target is classes or real numbers, and adds a note that says it.

    A column of text becomes categories: one feature of 0 and 1 for each of its values, in sorted order.
    An .npz has arrays instead of columns: features `x`, (examples, *features), or the only one beside the
    target, and targets `y`.

    Args:
        path: of a .csv, .parquet or .npz file, from the working directory.
        target: column or array of the targets; null: the last column, or `y`.
        task: what the target is; 'auto': it is found out.
        drop: columns to leave out, such as names and row numbers.
        delimiter: between the cells of a csv file, one character.

    Returns:
        x: (examples, features) in the order of the columns, y: (examples,).

    Raises:
        ValueError: what is wrong with the file, by column or line.

    Example:
        >>> from tempfile import NamedTemporaryFile
        >>> with NamedTemporaryFile("w", suffix=".csv") as file:
        ...     print("weight,kind,tame", "4.5,cat,yes", "20,dog,no", sep=chr(10), file=file, flush=True)
        ...     arrays = table(path=file.name)
        >>> arrays.x.tolist(), arrays.y.tolist()  # weight, cat, dog; no is 0, yes is 1
        ([[4.5, 1.0, 0.0], [20.0, 0.0, 1.0]], [1, 0])
    """
    file, where = Path(path), f"data.path={path}"
    if len(delimiter) != 1:
        raise ValueError(f"data.delimiter={delimiter}: must be one character, such as ';'")
    if not file.is_file():
        rule = "must be a file, not a folder or device" if file.exists() else "no such file"
        raise ValueError(f"{where}: {rule}, seen from {Path.cwd()}")
    kind = file.suffix.lower()
    if kind == ".npz":
        return _of_arrays(where, file, target, task, drop)
    if kind == ".csv":
        columns = read_csv(where, file, delimiter, drop)
    elif kind == ".parquet":
        columns = read_parquet(where, file, drop)
    else:
        raise ValueError(f"{where}: must end in .csv, .parquet or .npz")
    chosen = next(reversed(columns)) if target is None else target
    if chosen not in columns:
        raise ValueError(f"data.target={target}: no column of {path}; {did_you_mean(chosen, columns)}")
    targets = find_targets(f"target {chosen!r}", columns.pop(chosen), task)
    x, notes = _features(where, columns)
    return targets.with_features(file.name, x, notes)


def _features(where: str, columns: Columns) -> tuple[np.ndarray, tuple[str, ...]]:
    """The features, with one for each category of a column of text; and a note on such columns."""
    if not columns:
        raise ValueError(f"{where}: has no column besides the target; it must have at least one feature")
    categories = {name: np.unique(values) for name, values in columns.items() if values.dtype.kind == "U"}
    for name, words in categories.items():
        if len(words) > MOST_CATEGORIES:
            raise ValueError(
                f"{where}: column {name!r} holds {len(words)} different texts, more than the "
                f"{MOST_CATEGORIES} that can be categories; leave it out by data.drop=[{name}]"
            )
    width = len(columns) - len(categories) + sum(map(len, categories.values()))
    rows = len(next(iter(columns.values())))
    refuse_larger(where, 8 * rows * width, f"{width} features of {rows} rows")
    features = [
        (values[:, None] == categories[name] if name in categories else values[:, None]).astype(np.float64)
        for name, values in columns.items()
    ]
    counts = ", ".join(f"{name} ({len(words)})" for name, words in categories.items())
    notes = (f"columns of text as categories, one feature each: {counts}",) if categories else ()
    return np.concatenate(features, 1), notes


def _of_arrays(where: str, path: Path, target: str | None, task: Task, drop: Sequence[str]) -> Arrays:
    """The data set of an .npz file."""
    if drop:
        raise ValueError(f"data.drop={','.join(drop)}: must be empty with an .npz file, which has no columns")
    arrays = read_npz(where, path)
    named = "y" if target is None else target
    if named not in arrays:
        raise ValueError(f"data.target={named}: no array of {path}; {did_you_mean(named, arrays)}")
    y = arrays.pop(named)
    if "x" not in arrays and len(arrays) != 1:
        raise ValueError(
            f"{where}: must have the features as array 'x'; there are {', '.join(arrays) or 'none'}"
        )
    x = arrays["x"] if "x" in arrays else next(iter(arrays.values()))
    if x.dtype.kind not in "buif" or x.ndim < 2 or y.dtype.kind not in "buifU" or y.shape != x.shape[:1]:
        raise ValueError(
            f"{where}: must hold real features (examples, ...) and a target for each: found {x.dtype} "
            f"{x.shape} and {y.dtype} {y.shape}"
        )
    if bad := int((~np.isfinite(x)).sum()):
        raise ValueError(f"{where}: {bad} of the {x.size} features are missing or not finite")
    return find_targets(f"target {named!r}", y, task).with_features(path.name, x)
