"""New rows, in whatever form a person has them, as the raw features of a data set."""

from __future__ import annotations

import math
import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sweepwise.data import raw
from sweepwise.data.arrays import read_npy, read_npz
from sweepwise.data.cells import NUMBER, cells_of, with_point
from sweepwise.data.columns import Cells, names_listed, numbers, shown
from sweepwise.data.csv_file import DECIMALS, TABS, read_cells
from sweepwise.data.filling import Feature
from sweepwise.data.limits import refuse_larger
from sweepwise.data.parquet_file import holds_text, open_parquet
from sweepwise.data.reading import Reading
from sweepwise.errors import did_you_mean

UNKNOWN = -1  # the place of a value that is none of the categories
Columns = Mapping[str, Any]  # by name, (rows,) each: `Cells`, or what numpy makes an array of


def coded(rows: Any, features: Sequence[Feature], reading: Reading) -> np.ndarray:
    """The columns of a table as numbers: a category as its place among those of its column, from 0.

    Args:
        rows: see `Preparation`; without names, columns stand in the order of the features.
        features: those of the table.
        reading: how it was read.

    Returns:
        (rows, columns) of float64, NaN where a value is missing, a negative number where it is no category.

    Raises:
        ValueError: what is wrong with the rows, by column.
    """
    names = [feature.name for feature in features]
    given = _given(rows, reading, names)
    columns = given if isinstance(given, Mapping) else _by_place(given, names)
    if absent := [name for name in names if name not in columns]:
        raise ValueError(
            f"column {names_listed(list(map(repr, absent)))}: is absent; {_hint(absent, columns)}"
        )
    found: list[np.ndarray] = []
    for feature in features:
        column = _column(feature.name, columns[feature.name])
        if feature.words is None:
            found.append(_numbers(feature.name, column, reading))
        else:
            found.append(_categories(feature.name, feature.words, column, reading))
        if len(found[-1]) != len(found[0]):
            raise ValueError(
                f"column {feature.name!r}: has {len(found[-1])} rows, and {names[0]!r} has {len(found[0])}"
            )
    return np.column_stack(found)


def array(rows: Any, shape: tuple[int, ...], reading: Reading) -> np.ndarray:
    """The features of a set without named columns, (rows, ...), with channels where `reading` says.

    Args:
        rows: see `Preparation`; of columns by name there must be exactly the features, in their order.
        shape: of one example, channels first.
        reading: how the set was read.

    Raises:
        ValueError: the shape is another one, or a value is missing or no number.
    """
    given = _given(rows, reading, None)
    if isinstance(given, Mapping):
        names = [name for name in given if name != reading.target]
        if len(shape) > 1 or len(names) != shape[0]:
            wanted = f"an array (rows, {', '.join(map(str, stored_shape(shape, reading)))})"
            if len(shape) == 1:
                wanted = f"exactly {shape[0]} columns, as the features have no names in this run"
            raise ValueError(f"must be {wanted}: there are columns {names_listed(names)}")
        values = np.column_stack([_numbers(name, _column(name, given[name]), reading) for name in names])
    else:
        values = given if given.dtype.kind in raw.REAL else _as_numbers(given)
    stored = stored_shape(shape, reading)
    if values.shape == (0,):
        values = values.reshape(0, *stored)
    if values.shape[1:] != stored:
        way = "; a single example is [example]" if values.shape == stored else ""
        expected = ", ".join(map(str, stored))
        raise ValueError(f"must have the shape (rows, {expected}), and has {values.shape}{way}")
    if bad := int((~np.isfinite(values)).sum()):
        raise ValueError(f"{bad} of {values.size} values are missing or not finite")
    return values


def stored_shape(shape: tuple[int, ...], reading: Reading) -> tuple[int, ...]:
    """The shape of an example as a person has it, where its channels may be last or left out."""
    first, *others = shape
    return {"last": (*others, first), "none": tuple(others)}.get(reading.channels or "", shape)


def _given(rows: Any, reading: Reading, names: Sequence[str] | None) -> Columns | np.ndarray:
    """Rows in one of two forms: columns by name, or an array.

    Args:
        rows: see `Preparation`.
        reading: how files are read.
        names: of the columns that are needed; None: all.
    """
    if isinstance(rows, (str, os.PathLike)):
        return _from_file(Path(rows), reading, names)
    if isinstance(rows, Mapping):
        return {str(name).strip(): column for name, column in rows.items()}
    if hasattr(rows, "schema") and hasattr(rows.schema, "names") and hasattr(rows, "column"):  # pyarrow
        return {
            name.strip(): _decoded(own) for name, own in zip(rows.schema.names, rows.columns, strict=True)
        }
    if hasattr(rows, "columns") and hasattr(rows, "__getitem__"):  # a frame of pandas, polars, ...
        labels = list(rows.columns)
        return {str(label).strip(): rows[label] for label in labels}
    if isinstance(rows, Sequence) and rows and all(isinstance(row, Mapping) for row in rows):
        every = dict.fromkeys(name for row in rows for name in row)
        return {str(name).strip(): [row.get(name) for row in rows] for name in every}
    if names is not None and isinstance(rows, (list, tuple)):
        try:
            return np.asarray(rows, object)  # rows of numbers and text
        except ValueError as error:
            raise ValueError(f"rows must all have {len(names)} values ({error})") from error
    return raw.array("rows", rows)


def _from_file(path: Path, reading: Reading, names: Sequence[str] | None) -> Columns | np.ndarray:
    kind, where = path.suffix.lower(), str(path)
    if not path.is_file():
        rule = (
            "must be a file, not a folder or device"
            if path.exists()
            else f"no such file, seen from {Path.cwd()}"
        )
        raise ValueError(f"{where}: {rule}")
    if kind in (".csv", *TABS):
        try:
            return read_cells(where, path, reading.delimiter, names, reading.missing)
        except ValueError as error:  # here it is no key of a config
            raise ValueError(str(error).replace("data.delimiter", "delimiter")) from error
    if kind == ".parquet":
        return _from_parquet(where, path, reading, names)
    if kind == ".npy":
        return read_npy(where, path)
    if kind != ".npz":
        raise ValueError(f"{where}: must end in .csv, .tsv, .parquet, .npz or .npy")
    arrays = {name: found for name, found in read_npz(where, path).items() if name != reading.target}
    if "x" not in arrays and len(arrays) != 1:
        raise ValueError(
            f"{where}: must have the features as array 'x'; there are {', '.join(arrays) or 'none'}"
        )
    return arrays["x"] if "x" in arrays else next(iter(arrays.values()))


def _from_parquet(where: str, path: Path, reading: Reading, names: Sequence[str] | None) -> Columns:
    import pyarrow

    file, size = open_parquet(where, path)
    refuse_larger(where, size)
    try:
        wanted = [name for name in file.schema_arrow.names if names is None or name in names]
        table = file.read(columns=wanted, use_threads=False)
    except (pyarrow.ArrowException, OSError, MemoryError, ValueError) as error:
        raise ValueError(f"{where}: cannot be read ({error})") from error
    columns = dict(zip(table.schema.names, table.columns, strict=True))
    texts = {name: cells_of(own, reading.missing) for name, own in columns.items() if holds_text(own.type)}
    return {name: texts[name] if name in texts else _decoded(own) for name, own in columns.items()}


def _decoded(column: Any) -> Any:
    """A column of pyarrow without a dictionary of its values."""
    from pyarrow import types

    return column.cast(column.type.value_type) if types.is_dictionary(column.type) else column


def _by_place(values: np.ndarray, names: Sequence[str]) -> Columns:
    """The columns of an array, in the order of the names."""
    if values.ndim != 2 and values.size:
        raise ValueError(
            f"must have the shape (rows, {len(names)}), and has {values.shape}; one row is [row]"
        )
    if values.size and values.shape[1] != len(names):
        raise ValueError(
            f"must have {len(names)} columns ({names_listed(names)}), and has {values.shape[1]}; in a frame "
            "or a dictionary columns are found by name"
        )
    return {name: values[:, place] if values.size else values.ravel() for place, name in enumerate(names)}


def _column(name: str, column: Any) -> Cells | np.ndarray:
    """A column as cells of text, as an array of numbers, or of objects."""
    if isinstance(column, Cells):
        return column
    if isinstance(column, (str, bytes)) or not hasattr(column, "__len__"):
        raise ValueError(f"column {name!r}: must be a list of values, one a row")
    try:
        values = np.asarray(column)
    except ValueError:
        values = np.asarray([None, None]).reshape(1, 2)
    if values.ndim != 1:
        raise ValueError(f"column {name!r}: must have one value a row")
    if values.dtype.kind in raw.REAL:
        return values
    return values if values.dtype.kind == "O" else np.asarray(list(column), object)


def _numbers(name: str, column: Cells | np.ndarray, reading: Reading) -> np.ndarray:
    """A column of numbers, (rows,) of float64, NaN where missing."""
    if isinstance(column, np.ndarray) and (plain := _plain_numbers(column)) is not None:
        found = plain
    else:
        found = _read_numbers(name, _as_cells(column, reading.missing), DECIMALS[reading.decimal] == ",")
    codes = [float(text) for text in reading.missing if re.fullmatch(NUMBER, text)]
    return np.where(np.isin(found, codes), np.nan, found) if codes else found


def _plain_numbers(column: np.ndarray) -> np.ndarray | None:
    """The values of a column without text, (rows,) of float64; None if some are no numbers."""
    if column.dtype.kind in raw.REAL:
        return column.astype(np.float64)
    values = column.tolist()
    if any(isinstance(value, str) for value in values):
        return None
    try:
        return np.array([np.nan if _is_missing(value) else float(value) for value in values], np.float64)
    except (TypeError, ValueError, OverflowError):
        return None


def _read_numbers(name: str, cells: Cells, comma: bool) -> np.ndarray:
    from pyarrow import compute

    plain = with_point(cells.words, comma)
    numeric = np.asarray(compute.match_substring_regex(plain, NUMBER).fill_null(True))
    wrong = np.flatnonzero(~numeric[cells.places])
    if len(wrong):
        first = cells.words[int(cells.places[wrong[0]])].as_py()
        raise ValueError(
            f"column {name!r}: must hold numbers, and holds {shown(first)!r} in row {wrong[0]} (from 0)"
        )
    return numbers(plain)[cells.places]


def _as_cells(column: Cells | np.ndarray, missing: Sequence[str]) -> Cells:
    """Objects as text, truth values as 0 and 1."""
    import pyarrow

    if isinstance(column, Cells):
        return column
    texts = [
        None if _is_missing(value) else str(int(value) if _is_truth(value) else value) for value in column
    ]
    return cells_of(pyarrow.chunked_array([pyarrow.array(texts, pyarrow.large_string())]), missing)


def _categories(name: str, words: Sequence[str], column: Cells | np.ndarray, reading: Reading) -> np.ndarray:
    """The place of each row's category, (rows,) of float64; NaN where the value is missing."""
    values, places = _distinct(column)
    own = np.array([_place(value, words, reading.missing) for value in values], np.float64)[places]
    unknown = np.flatnonzero(own == UNKNOWN)
    if len(unknown):
        first = shown(str(values[places[unknown[0]]]))
        _warn(
            f"column {name!r}: {len(unknown)} of {len(own)} rows hold no category that the run knows "
            f"({names_listed(words)}), such as {first!r}; they count as none"
        )
    return own


def _warn(text: str) -> None:
    """A warning that is shown with the line of the person who has called."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("sweepwise."):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, stacklevel=level)


def _distinct(column: Cells | np.ndarray) -> tuple[list[Any], np.ndarray]:
    """The different values of a column, and the place of each row's among them."""
    if isinstance(column, Cells):
        return column.words.to_pylist(), column.places
    known: dict[tuple[type, Any], int] = {}
    values = [None if _is_missing(value) else value for value in column.tolist()]
    places = [known.setdefault((type(value), _hashable(value)), len(known)) for value in values]
    return [value for _, value in known], np.array(places, np.int64)


def _hashable(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return str(value)
    return value


def _place(value: Any, words: Sequence[str], missing: Sequence[str]) -> float:
    """The place of a value among the categories, NaN if it is missing.

    A number may be written in another way there.
    """
    text = "" if value is None else str(value).strip()
    if value is None or text in missing:
        return math.nan
    if text in words:
        return words.index(text)
    same: list[int] = []
    if _is_truth(value):
        same = [place for place, word in enumerate(words) if word.lower() == text.lower()]
    elif not isinstance(value, str):
        same = [
            place for place, word in enumerate(words) if re.fullmatch(NUMBER, word) and float(word) == value
        ]
    return same[0] if len(same) == 1 else UNKNOWN


def _is_truth(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def _is_missing(value: Any) -> bool:
    return value is None or (not isinstance(value, str) and str(value) in raw.MISSING)


def _as_numbers(values: np.ndarray) -> np.ndarray:
    try:
        if values.dtype.kind not in "OU":
            raise TypeError(f"not {values.dtype}")
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"must hold numbers ({error})") from error


def _hint(absent: Sequence[str], columns: Columns) -> str:
    if len(absent) == 1:
        return did_you_mean(absent[0], list(columns)[:20])
    return f"there is {names_listed(list(columns)) or 'none'}"
