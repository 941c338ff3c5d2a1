"""Tables of named columns, from csv and parquet files."""

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
ROW_BYTES, CELL_BYTES = 128, 64  # that Python takes for a row of text and for each of its cells


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
    """The rows that are not empty, each with the number of its last line; counted while they are read."""
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
    broken = (pyarrow.ArrowException, OSError, MemoryError, ValueError)
    try:
        # Text stays as words and numbers of words: a word may stand in any number of rows.
        file = parquet.ParquetFile(path, page_checksum_verification=True)
        words = [
            column.path for column in map(file.schema.column, range(len(file.schema))) if _is_text(column)
        ]
        file = parquet.ParquetFile(path, page_checksum_verification=True, read_dictionary=words)
        fields = {field.name: field.type for field in file.schema_arrow}
        asked = _decoded(file.metadata)
    except broken as error:
        raise ValueError(f"{where}: cannot be read ({error})") from error
    if len(fields) < len(file.schema_arrow):
        raise ValueError(f"{where}: has columns of the same name")
    kept = dropped(where, fields, drop)
    for name, kind in kept.items():
        _refuse_kind(where, name, kind)
    refuse_larger(where, asked)
    try:
        table = file.read(columns=list(kept), use_threads=False)
    except broken as error:
        raise ValueError(f"{where}: cannot be read ({error})") from error
    return checked(where, {name: _from_arrow(where, name, table.column(name)) for name in kept})


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
    _refuse_long(where, name, texts, len(texts))
    return np.array(["" if text.lower() in MISSING else text for text in texts])


def _refuse_long(where: str, name: str, words: Sequence[str], rows: int) -> None:
    """Refuses text of which the longest word, in every row, is more than memory can have."""
    longest = max(map(len, words), default=0)
    refuse_larger(where, 4 * longest * rows, f"column {name!r}, with a text of {longest} characters,")


def _is_text(column: Any) -> bool:
    return column.physical_type == "BYTE_ARRAY" and column.logical_type.type == "STRING"


def _decoded(metadata: Any) -> int:
    """Bytes that the columns of a parquet file take when they are decoded, at least, by its own account."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    chunks = [group.column(place) for group in groups for place in range(group.num_columns)]
    return max(
        sum(8 * chunk.num_values for chunk in chunks),
        sum(chunk.total_uncompressed_size for chunk in chunks),
    )


def _refuse_kind(where: str, name: str, kind: Any) -> None:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    numbers = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    if not (numbers or types.is_boolean(kind) or types.is_string(kind) or types.is_large_string(kind)):
        raise ValueError(f"{where}: column {name!r}: {kind} is neither numbers, text nor truth values")


def _from_arrow(where: str, name: str, column: Any) -> np.ndarray:
    """A column of pyarrow's as `_typed` would give it."""
    from pyarrow import float64, types

    kind = column.type
    if types.is_dictionary(kind) and not types.is_string(kind.value_type) | types.is_large_string(
        kind.value_type
    ):
        column = column.cast(kind.value_type)
        kind = column.type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return column.cast(float64()).to_numpy()  # NaN for what is missing
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
    places = [chunk.indices.fill_null(len(words)).to_numpy(zero_copy_only=False) for chunk in chunks]
    return np.array([*words, ""])[np.concatenate([np.empty(0, np.int64), *places]).astype(np.int64)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
