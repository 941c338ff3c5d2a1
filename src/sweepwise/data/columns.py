"""Tables of named columns, from csv and parquet files."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

Cells = TypeVar("Cells")
Columns = dict[str, np.ndarray]  # each (rows,) of float64, truth values or text

MISSING = {"", "na", "n/a", "nan", "null"}
LARGEST_FIELD = 2**20  # characters of a cell


def read_csv(where: str, path: Path, delimiter: str, drop: Sequence[str]) -> Columns:
    """Reads a csv file whose first row has the names of the columns.

    Args:
        where: what names the file in a message.
        path: of the file, in UTF-8.
        delimiter: between the cells.
        drop: columns to leave out.

    Raises:
        ValueError: what is wrong with the file, by row or column.
    """
    csv.field_size_limit(LARGEST_FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: must be UTF-8 ({error.reason} at byte {error.start})") from error
    except csv.Error as error:
        raise ValueError(f"{where}: line {reader.line_num}: {error}") from error
    if not rows:
        raise ValueError(f"{where}: is empty; the first row must have the names of the columns")
    header = _checked_header(where, rows[0][1], delimiter)
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise ValueError(f"{where}: line {line} has {len(row)} cells, the header {len(header)}")
    cells = zip(*(row for _, row in rows[1:]), strict=True)
    columns: dict[str, Sequence[str]] = dict.fromkeys(header, ()) | dict(zip(header, cells, strict=False))
    kept = dropped(where, columns, drop)
    return checked(where, {name: _typed(where, name, texts) for name, texts in kept.items()})


def read_parquet(where: str, path: Path, drop: Sequence[str]) -> Columns:
    """Reads a parquet file.

    Args:
        where: what names the file in a message.
        path: of the file.
        drop: columns to leave out.

    Raises:
        ValueError: pyarrow is not installed, or what is wrong with the file, by column.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(f"{where}: needs pyarrow; pip install 'sweepwise[table]'") from error
    try:
        table = parquet.read_table(path, partitioning=None)  # folders called a=b add no columns
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{where}: cannot be read ({error})") from error
    named = dict(zip(table.column_names, table.columns, strict=True))
    if len(named) < table.num_columns:
        raise ValueError(f"{where}: has columns of the same name")
    kept = dropped(where, named, drop)
    return checked(where, {name: _from_arrow(where, name, column) for name, column in kept.items()})


def dropped(where: str, columns: Mapping[str, Cells], drop: Sequence[str]) -> dict[str, Cells]:
    """The columns without those that are not wanted."""
    unknown = [name for name in drop if name not in columns]
    if unknown:
        raise ValueError(f"data.drop={unknown[0]}: no column of {where}; there is {', '.join(columns)}")
    return {name: column for name, column in columns.items() if name not in drop}


def checked(where: str, columns: Columns) -> Columns:
    """The same columns, if they have rows and no cell is missing or infinite."""
    if not columns or not len(next(iter(columns.values()))):
        raise ValueError(f"{where}: has no rows")
    faults = []
    for name, values in columns.items():
        if values.dtype.kind == "U":
            missing, infinite = int((values == "").sum()), 0
        else:
            missing, infinite = int(np.isnan(values).sum()), int(np.isinf(values).sum())
        if missing:
            faults.append(f"{where}: column {name!r}: {missing} of {len(values)} values are missing")
        if infinite:
            faults.append(f"{where}: column {name!r}: {infinite} of {len(values)} values are not finite")
    if faults:
        way = "fill them in, remove their rows, or leave columns out with data.drop"
        raise ValueError("\n".join([*faults[:-1], f"{faults[-1]}; {way}"]))
    return columns


def _checked_header(where: str, header: list[str], delimiter: str) -> list[str]:
    if len(header) < 2:
        raise ValueError(
            f"{where}: has one column only, {header[0]!r}; data.delimiter={delimiter!r} is what parts columns"
        )
    for place, name in enumerate(header):
        if not name:
            raise ValueError(
                f"{where}: column {place + 1} has no name; name it, or save the table without its index"
            )
        if name in header[:place]:
            raise ValueError(f"{where}: two columns are called {name!r}")
    if all(map(_is_number, header)) and header != [str(place) for place in range(len(header))]:
        raise ValueError(
            f"{where}: the first row holds numbers only ({', '.join(header[:3])}, ...); "
            "it must have the names of the columns"
        )
    return header


def _typed(where: str, name: str, texts: Sequence[str]) -> np.ndarray:
    """Numbers if all cells are, NaN for what is missing; else text, '' for what is missing."""
    there = [text for text in texts if text.lower() not in MISSING]
    words = [text for text in there if not _is_number(text)]
    if not words:
        return np.array([float(text) if text.lower() not in MISSING else np.nan for text in texts])
    if 2 * len(words) < len(there):
        raise ValueError(
            f"{where}: column {name!r}: {len(words)} of {len(texts)} values are no numbers, "
            f"such as {words[0]!r}; the others are"
        )
    return np.array(["" if text.lower() in MISSING else text for text in texts])


def _from_arrow(where: str, name: str, column: Any) -> np.ndarray:
    """A column of pyarrow's as `_typed` would give it."""
    from pyarrow import float64, types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return column.cast(float64()).to_numpy()  # NaN for what is missing
    if types.is_boolean(kind) and not column.null_count:
        return column.to_numpy()
    if types.is_boolean(kind) or types.is_string(kind) or types.is_large_string(kind):
        return np.array(["" if value is None else str(value).strip() for value in column.to_pylist()])
    raise ValueError(f"{where}: column {name!r}: {kind} is neither numbers, text nor truth values")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
