"""Reads a parquet file by pyarrow."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sweepwise.data.cells import cells_of, target_of
from sweepwise.data.columns import INDEX, Cells, Column, Table, Target, Wanted, chosen, names_listed, numbers
from sweepwise.data.limits import refuse_larger
from sweepwise.errors import shell_override


def read_parquet(wanted: Wanted, path: Path) -> Table:
    """Reads a parquet file; what its metadata, as pandas writes them, call an index is no feature.

    Args:
        wanted: what is asked for.
        path: of the file.

    Raises:
        ValueError: what is wrong with the file, by column.
    """
    import pyarrow

    where = wanted.where
    file, size = open_parquet(where, path)
    schema = file.schema_arrow
    fields = {field.name: field.type for field in schema}
    if len(fields) < len(schema):
        raise ValueError(f"{where}: has two columns of the same name; rename one")
    index = _index(schema)
    name, features = chosen(wanted, list(fields), index)
    for column in features:
        _refuse_kind(
            where, column, fields[column], f"leave it out by {shell_override('data.drop', [column])}"
        )
    _refuse_kind(where, name, fields[name], "it is the target: choose another column by data.target")
    refuse_larger(where, size)
    try:
        table = file.read(columns=[*features, name], use_threads=False)
    except (pyarrow.ArrowException, OSError, MemoryError, ValueError) as error:
        raise ValueError(f"{where}: cannot be read ({error})") from error
    if not len(table):
        raise ValueError(f"{where}: has no rows")
    left = [column for column in fields if column in index and column not in (name, *wanted.drop)]
    note = f"an index, left out: column {names_listed(left)}; pandas' reset_index makes it a column"
    notes = [note] if left else []
    coded = _coded(schema, file.metadata.metadata or {})
    codes = [column for column in features if column in coded and column not in wanted.categories]
    if codes:
        way = shell_override("data.categories", codes[:10])
        notes.append(
            f"categories of numbers, taken as numbers: {names_listed(codes)}; {way} makes them categories"
        )
    columns = {column: _feature(wanted, column, table.column(column)) for column in features}
    return Table(name, _target(wanted, name, table.column(name)), columns, notes)


def open_parquet(where: str, path: Path) -> tuple[Any, int]:
    """A parquet file, and the least size of its columns in memory, in bytes.

    Its text is read as a dictionary of words and an index for each row, as words may repeat in many rows.

    Raises:
        ValueError: it cannot be read.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path, page_checksum_verification=True)
        columns = map(file.schema.column, range(len(file.schema)))
        words = [column.path for column in columns if _is_text(column)]
        file = parquet.ParquetFile(path, page_checksum_verification=True, read_dictionary=words)
        return file, _decoded_size(file.metadata)
    except (pyarrow.ArrowException, OSError, MemoryError, ValueError) as error:
        raise ValueError(f"{where}: cannot be read ({error})") from error


def _index(schema: Any) -> Collection[str]:
    """The columns that pandas would make the index of a frame again."""
    metadata = schema.pandas_metadata or {}
    stored = {column for column in metadata.get("index_columns", ()) if isinstance(column, str)}
    return stored | {name for name in schema.names if INDEX.fullmatch(name)}


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


def _refuse_kind(where: str, name: str, kind: Any, way: str) -> None:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    plain = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    if not (plain or types.is_boolean(kind) or holds_text(kind) or types.is_null(kind)):
        raise ValueError(
            f"{where}: column {name!r}: must hold numbers, text or truth values, not {kind}; {way}"
        )


def holds_text(kind: Any) -> bool:
    """Whether a type of pyarrow is one of text, or of a dictionary of it."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _coded(schema: Any, metadata: Mapping[bytes, bytes]) -> set[str]:
    """The columns of numbers that the file says are categories, as those of pandas and of pyarrow.

    pyarrow gives text alone its dictionary again; the schema that it keeps has those of numbers too.
    """
    import pyarrow
    from pyarrow import types

    original = schema
    with contextlib.suppress(pyarrow.ArrowException, KeyError, OSError, ValueError):
        kept = base64.b64decode(metadata[b"ARROW:schema"])
        original = pyarrow.ipc.read_schema(pyarrow.py_buffer(kept))
    stored = (schema.pandas_metadata or {}).get("columns", ())
    named = {column["name"] for column in stored if column.get("pandas_type") == "categorical"}
    return {
        field.name
        for field in original
        if (field.name in named or types.is_dictionary(field.type)) and not holds_text(field.type)
    }


def _decoded(cells: Any) -> Any:
    """A column without a dictionary, unless it is one of text."""
    from pyarrow import types

    if types.is_dictionary(cells.type) and not holds_text(cells.type):
        return cells.cast(cells.type.value_type)
    return cells


def _words(wanted: Wanted, column: Any) -> Cells:
    import pyarrow

    plain = column if holds_text(column.type) else column.cast(pyarrow.string())
    return cells_of(plain, ("",) if wanted.missing is None else wanted.missing)


def _feature(wanted: Wanted, name: str, column: Any) -> Column:
    from pyarrow import types

    column = _decoded(column)
    if holds_text(column.type) or name in wanted.categories:
        return _words(wanted, column).text(wanted.where, name)
    if types.is_boolean(column.type) and not column.null_count:
        return np.asarray(column.to_numpy())
    return numbers(column)


def _target(wanted: Wanted, name: str, column: Any) -> Target:
    """The target; numbers of a decimal type go the way of text, which is exact."""
    from pyarrow import compute, types

    column = _decoded(column)
    if types.is_decimal(column.type):
        return target_of(wanted, name, _words(wanted, column), False)
    if holds_text(column.type) or name in wanted.categories:
        words = _words(wanted, column).text(wanted.where, name)
        return Target(words, words.places < 0)
    if types.is_floating(column.type) or types.is_null(column.type):
        values = numbers(column)
        return Target(values, np.isnan(values))
    filled = column.fill_null(False if types.is_boolean(column.type) else 0)
    return Target(filled.to_numpy(), compute.is_null(column).to_numpy())
