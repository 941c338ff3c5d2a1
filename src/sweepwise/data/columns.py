"""Reads tables of named columns from csv and parquet files."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sweepwise.data.limits import memory, refuse_larger

Cells = TypeVar("Cells")
Columns = dict[str, np.ndarray]  # each (rows,) of float64, truth values or text

MISSING = {"", "na", "n/a", "nan", "null"}
LARGEST_FIELD = 2**20  # characters of a cell
ROW_BYTES, CELL_BYTES = 128, 64  # of Python's memory for a row of text, and for each of its cells


def read_csv(where: str, path: Path, delimiter: str, drop: Sequence[str]) -> Columns:
    """Reads a csv file whose first row has the names of the columns.

    Args:
        where: the config key and value, for messages.
        path: of the file, in UTF-8.
        delimiter: between the cells.
        drop: columns to leave out.

    Raises:
        ValueError: what is wrong with the file, by row or column.
    """
    rows = _rows(where, path, delimiter)
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


def _rows(where: str, path: Path, delimiter: str) -> list[tuple[int, list[str]]]:
    """The rows that are not empty, each with its line number; refused while they are read if too large."""
    csv.field_size_limit(LARGEST_FIELD)
    most, rows = memory() // 2, []
    try:
        taken = path.stat().st_size
        refuse_larger(where, taken)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            for row in reader:
                taken += ROW_BYTES + CELL_BYTES * len(row)
                if taken > most:
                    refuse_larger(where, taken, f"the text up to line {reader.line_num} alone")
                if row:
                    rows.append((reader.line_num, [cell.strip() for cell in row]))
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: must be UTF-8 ({error.reason} at byte {error.start})") from error
    except csv.Error as error:
        raise ValueError(f"{where}: line {reader.line_num}: {error}") from error
    except OSError as error:
        raise ValueError(f"{where}: cannot be read ({error.strerror})") from error
    return rows


def read_parquet(where: str, path: Path, drop: Sequence[str]) -> Columns:
    """Reads a parquet file.

    Args:
        where: the config key and value, for messages.
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
    broken = (pyarrow.ArrowException, OSError, MemoryError, ValueError)
    try:
        # Text is read as a dictionary of words and an index for each row, as words may repeat in many rows.
        file = parquet.ParquetFile(path, page_checksum_verification=True)
        words = [
            column.path for column in map(file.schema.column, range(len(file.schema))) if _is_text(column)
        ]
        file = parquet.ParquetFile(path, page_checksum_verification=True, read_dictionary=words)
        fields = {field.name: field.type for field in file.schema_arrow}
        size = _decoded_size(file.metadata)
    except broken as error:
        raise ValueError(f"{where}: cannot be read ({error})") from error
    if len(fields) < len(file.schema_arrow):
        raise ValueError(f"{where}: has two columns of the same name; rename one")
    kept = dropped(where, fields, drop)
    for name, kind in kept.items():
        _refuse_kind(where, name, kind)
    refuse_larger(where, size)
    try:
        table = file.read(columns=list(kept), use_threads=False)
    except broken as error:
        raise ValueError(f"{where}: cannot be read ({error})") from error
    return checked(where, {name: _from_arrow(where, name, table.column(name)) for name in kept})


def dropped(where: str, columns: Mapping[str, Cells], drop: Sequence[str]) -> dict[str, Cells]:
    """The columns without those in `drop`."""
    unknown = [name for name in drop if name not in columns]
    if unknown:
        raise ValueError(f"data.drop={unknown[0]}: no column of {where}; there are {', '.join(columns)}")
    return {name: column for name, column in columns.items() if name not in drop}


def checked(where: str, columns: Columns) -> Columns:
    """The same columns, after a check that there are rows and no cell is missing or infinite.

    Raises:
        ValueError: which columns have missing or infinite values.
    """
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
        way = "fill them in, remove their rows, or leave out these columns by data.drop"
        raise ValueError("\n".join([*faults[:-1], f"{faults[-1]}; {way}"]))
    return columns


def _checked_header(where: str, header: list[str], delimiter: str) -> list[str]:
    if len(header) < 2:
        raise ValueError(
            f"{where}: has only one column, {header[0]!r}; is data.delimiter={delimiter!r} right?"
        )
    for index, name in enumerate(header):
        if not name:
            raise ValueError(
                f"{where}: column {index + 1} has no name; give it one, or save the table without its index"
            )
        if name in header[:index]:
            raise ValueError(f"{where}: two columns are called {name!r}; rename one")
    if all(map(_is_number, header)) and header != [str(index) for index in range(len(header))]:
        raise ValueError(
            f"{where}: the first row holds numbers only ({', '.join(header[:3])}, ...); "
            "it must have the names of the columns"
        )
    return header


def _typed(where: str, name: str, texts: Sequence[str]) -> np.ndarray:
    """A column as numbers, NaN where missing, if all cells are numbers; else as text, '' where missing."""
    present = [text for text in texts if text.lower() not in MISSING]
    words = [text for text in present if not _is_number(text)]
    if not words:
        return np.array([float(text) if text.lower() not in MISSING else np.nan for text in texts])
    if 2 * len(words) < len(present):
        raise ValueError(
            f"{where}: column {name!r}: {len(words)} of {len(texts)} values are not numbers, "
            f"such as {words[0]!r}, but the others are; correct them, or leave out the column by data.drop"
        )
    _refuse_long(where, name, texts, len(texts))
    return np.array(["" if text.lower() in MISSING else text for text in texts])


def _refuse_long(where: str, name: str, words: Sequence[str], rows: int) -> None:
    """Refuses a column of text that takes too much memory: in numpy each row takes that of the longest."""
    longest = max(map(len, words), default=0)
    refuse_larger(where, 4 * longest * rows, f"column {name!r}, with a text of {longest} characters,")


def _is_text(column: Any) -> bool:
    return column.physical_type == "BYTE_ARRAY" and column.logical_type.type == "STRING"


def _decoded_size(metadata: Any) -> int:
    """The least size of a parquet file's columns in memory, in bytes, by its own metadata."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    return max(
        sum(8 * chunk.num_values for chunk in chunks),
        sum(chunk.total_uncompressed_size for chunk in chunks),
    )


def _refuse_kind(where: str, name: str, kind: Any) -> None:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    numbers = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    if not (numbers or types.is_boolean(kind) or types.is_string(kind) or types.is_large_string(kind)):
        raise ValueError(
            f"{where}: column {name!r}: must hold numbers, text or truth values, not {kind}; "
            "leave it out by data.drop"
        )


def _from_arrow(where: str, name: str, column: Any) -> np.ndarray:
    """A column of pyarrow in the form of `_typed`."""
    from pyarrow import float64, types

    kind = column.type
    if types.is_dictionary(kind) and not types.is_string(kind.value_type) | types.is_large_string(
        kind.value_type
    ):
        column = column.cast(kind.value_type)
        kind = column.type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return column.cast(float64()).to_numpy()  # NaN where missing
    if types.is_boolean(kind) and not column.null_count:
        return column.to_numpy()
    if types.is_boolean(kind):
        return np.array(["" if value is None else str(value) for value in column.to_pylist()])
    if not types.is_dictionary(kind):
        column = column.dictionary_encode()
    chunks = column.unify_dictionaries().chunks
    words = [
        "" if word is None else word.strip() for word in (chunks[0].dictionary.to_pylist() if chunks else [])
    ]
    _refuse_long(where, name, words, len(column))
    indices = [chunk.indices.fill_null(len(words)).to_numpy(zero_copy_only=False) for chunk in chunks]
    return np.array([*words, ""])[np.concatenate([np.empty(0, np.int64), *indices]).astype(np.int64)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
