"""Reads a csv file by pyarrow, which finds out what its columns hold."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sweepwise.data.cells import MISSING, NUMBER, cells_of, numbers_or_text, target_of
from sweepwise.data.columns import (
    INDEX,
    Cells,
    Chunked,
    Column,
    Table,
    Text,
    Wanted,
    chosen,
    names_listed,
)
from sweepwise.data.doubtful import doubtful_numbers
from sweepwise.data.limits import memory, refuse_larger

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": " ", "pipe": "|", "\\t": "\t"}
DECIMALS = {"point": ".", "comma": ",", ".": ".", ",": ","}
TABS = (".tsv", ".tab")  # endings of files whose columns are separated by tabs
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # marks at the beginning of a file
BLOCK_BYTES = 2**22  # parsed at a time, in the cache
LONG = 2**16  # rows of a column that is not copied as a whole
ROWS = 16  # as long as the header, that fit into a block at least
HEAD_BYTES = 2**20  # of the file's beginning, whose columns are looked at first
CELL_BYTES, LEAST_BYTES = 8, 2  # that a number takes in memory, and at least in the file

Content = TypeVar("Content")


def read_csv(wanted: Wanted, path: Path, delimiter: str | None, decimal: str | None) -> Table:
    """Reads a csv file whose first row has the names of the columns.

    Args:
        wanted: what is asked for.
        path: of the file, in UTF-8.
        delimiter: between the cells: a character or its name; None: a comma, or a tab by the file's ending.
        decimal: 'point' or 'comma'; None: a point.

    Raises:
        ValueError: what is wrong with the file or the arguments, by row or column.
    """
    between = _delimiter(delimiter, path)
    if decimal not in (None, *DECIMALS):
        raise ValueError(f"data.decimal={decimal}: must be point or comma")
    return _looked_through(
        wanted.where, path, between, partial(_read, wanted, path, between, DECIMALS[decimal or "point"])
    )


def read_cells(
    where: str, path: Path, delimiter: str | None, names: Sequence[str] | None, missing: Sequence[str]
) -> dict[str, Cells]:
    """Columns of a csv file as text, whatever they hold, for rows to be predicted.

    Args:
        where: the file, for messages.
        path: of the file, in UTF-8.
        delimiter: see `read_csv`.
        names: of the columns; those that the file does not have are left out; None: all.
        missing: the texts that stand for no value.

    Raises:
        ValueError: what is wrong with the file, by row or column.
    """
    between = _delimiter(delimiter, path)
    return _looked_through(where, path, between, partial(_cells, where, path, between, names, missing))


def _looked_through(where: str, path: Path, between: str, read: Callable[[bool], Content]) -> Content:
    """Looks through a file before it is read; `read` takes whether cells are quoted."""
    try:
        refuse_larger(where, path.stat().st_size)
        with path.open("rb") as file:
            if file.read(2) in UTF_16:
                raise ValueError(f"{where}: must be UTF-8, and is UTF-16")
        quotes = _counted(path, b'"')
        if quotes % 2:
            _refuse_open_quote(where, path, between)
        return read(quotes > 0)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: must be UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise ValueError(f"{where}: cannot be read ({error.strerror})") from error


def _read(wanted: Wanted, path: Path, between: str, decimal: str, quoted: bool) -> Table:
    from pyarrow import csv as reader

    where = wanted.where
    parsing = reader.ParseOptions(delimiter=between, newlines_in_values=quoted)
    with path.open("rb") as file:
        header = len(file.readline())
    raw, kinds = _head(where, path, parsing, decimal, max(HEAD_BYTES, ROWS * header))
    names = _checked_header(where, raw, between)
    blank = not names[-1]  # each row ends with a delimiter
    names = names[:-1] if blank else names
    if CELL_BYTES // LEAST_BYTES * path.stat().st_size > memory() // 2:
        lines = _counted(path, b"\n")
        refuse_larger(where, CELL_BYTES * lines * len(names), f"{len(names)} columns of up to {lines} rows")
    index = [name for name in names if not name or INDEX.fullmatch(name)]
    target, features = chosen(wanted, names, index)
    source = dict(zip(names, raw, strict=False))  # the file's own name of each column
    include = [*(source[name] for name in (*features, target)), *([raw[-1]] if blank else [])]
    types = {name: kinds[name] for name in include} | {source[name]: "words" for name in wanted.categories}
    if kinds[source[target]] == "double":
        types[source[target]] = "string"  # of which each may be another
    block = max(BLOCK_BYTES, ROWS * header)
    table = _parsed(where, path, parsing, include, types, decimal, wanted.missing, block)
    if not len(table):
        raise ValueError(f"{where}: has no rows")
    if blank and any(map(str.strip, table.column(-1).unique().cast("string").drop_null().to_pylist())):
        raise ValueError(f"{where}: column {len(raw)} has no name; give it one")
    absent = MISSING if wanted.missing is None else wanted.missing
    columns: dict[str, Column] = {}
    for place, name in enumerate(features):
        cells = table.column(place)
        if cells.type == "double":
            columns[name] = cells.to_numpy() if len(cells) < LONG else Chunked(_pieces(cells))
        else:
            columns[name] = numbers_or_text(wanted, name, cells_of(cells, absent), decimal == ",")
    left = [name or "without a name" for name in index if name not in (target, *wanted.drop)]
    note = f"an index, left out: column {names_listed(left)}; give it another name to use it"
    found = target_of(wanted, target, cells_of(table.column(len(features)), absent), decimal == ",")
    plain = [name for name, column in columns.items() if not isinstance(column, Text)]
    notes = [note] if left else []
    notes += doubtful_numbers(path, between, [*names, *([""] if blank else [])], plain)
    return Table(target, found, columns, notes)


def _cells(
    where: str, path: Path, between: str, names: Sequence[str] | None, missing: Sequence[str], quoted: bool
) -> dict[str, Cells]:
    from pyarrow import csv as reader

    parsing = reader.ParseOptions(delimiter=between, newlines_in_values=quoted)
    with path.open("rb") as file:
        header = len(file.readline())
    raw, _ = _head(where, path, parsing, ".", max(HEAD_BYTES, ROWS * header))
    plain = [name.strip() for name in raw]
    if len(raw) > 1:
        _checked_header(where, raw, between)
    elif names is not None and plain[0] not in names:
        _checked_header(where, raw, between)  # says that the delimiter may be another one
    source = {name: own for name, own in zip(plain, raw, strict=True) if names is None or name in names}
    if not source:
        return {}
    kinds = dict.fromkeys(source.values(), "words")
    table = _parsed(where, path, parsing, list(kinds), kinds, ".", (), max(BLOCK_BYTES, ROWS * header))
    return {name: cells_of(table.column(place), missing) for place, name in enumerate(source)}


def _pieces(cells: Any) -> list[np.ndarray]:
    """The chunks of pyarrow's numbers; NaN where missing."""
    return [chunk.to_numpy(zero_copy_only=False) for chunk in cells.chunks if len(chunk)]


def _head(where: str, path: Path, parsing: Any, decimal: str, size: int) -> tuple[list[str], dict[str, str]]:
    """The names of the columns as the file has them, and whether its first bytes hold numbers or words."""
    import pyarrow
    from pyarrow import csv as reader

    converting = reader.ConvertOptions(decimal_point=decimal, null_values=MISSING)
    reading = reader.ReadOptions(use_threads=False, block_size=size)
    try:
        schema = reader.open_csv(path, reading, parsing, converting).schema
    except pyarrow.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            raise ValueError(
                f"{where}: is empty; the first row must have the names of the columns"
            ) from error
        raise _unreadable(where, error) from error
    kinds = dict.fromkeys(("int64", "double", "null"), "double")
    return schema.names, {field.name: kinds.get(str(field.type), "words") for field in schema}


def _parsed(
    where: str,
    path: Path,
    parsing: Any,
    include: Sequence[str],
    types: dict[str, str],
    decimal: str,
    missing: Sequence[str] | None,
    block: int,
) -> Any:
    """The columns as pyarrow's table, numbers as float64; all as text if some of the numbers are none."""
    import pyarrow
    from pyarrow import csv as reader

    reading = reader.ReadOptions(use_threads=False, block_size=block)
    known = {
        "double": pyarrow.float64(),
        "string": pyarrow.string(),
        "words": pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
    }
    every = [types, dict.fromkeys(types, "string")]
    for attempt, kinds in enumerate(every):
        converting = reader.ConvertOptions(
            column_types={name: known[kind] for name, kind in kinds.items()},
            include_columns=include,
            decimal_point=decimal,
            null_values=MISSING if missing is None else missing,
        )
        try:
            return reader.read_csv(path, reading, parsing, converting)
        except pyarrow.ArrowInvalid as error:
            if "UTF8" in str(error):
                raise ValueError(f"{where}: must be UTF-8 ({error})") from error
            if attempt == len(every) - 1 or "conversion error" not in str(error):
                raise _unreadable(where, error) from error
    raise AssertionError("the last attempt returns or raises")


def _unreadable(where: str, error: Exception) -> ValueError:
    """An error of pyarrow in the words of the other messages."""
    if row := re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", str(error)):
        one_more = int(row[3]) == int(row[2]) + 1
        ending = "; if each row ends with a delimiter, so must the header" if one_more else ""
        return ValueError(
            f"{where}: row {row[1]} has {row[3]} cells, the header {row[2]} (the header is row 1, and empty "
            f"lines do not count){ending}"
        )
    if "straddling" in str(error):
        return ValueError(f"{where}: a row is longer than {BLOCK_BYTES:,} bytes; is the delimiter right?")
    return ValueError(f"{where}: cannot be read ({' '.join(str(error).split())})")


def _counted(path: Path, byte: bytes) -> int:
    """How often a file has a byte."""
    with path.open("rb") as file:
        return sum(block.count(byte) for block in iter(lambda: file.read(HEAD_BYTES), b""))


def _refuse_open_quote(where: str, path: Path, delimiter: str) -> None:
    """Refuses a file that ends within a quoted cell, of which pyarrow would make one of all the rest.

    A quote within a cell is one of its characters, so there may be an odd number of them.
    """
    csv.field_size_limit(memory())
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            for _ in reader:
                pass
        except csv.Error as error:
            raise ValueError(f"{where}: line {reader.line_num}: {error}") from error


def _delimiter(delimiter: str | None, path: Path) -> str:
    if delimiter is None:
        return "\t" if path.suffix.lower() in TABS else ","
    character = DELIMITERS.get(delimiter, delimiter)
    if len(character) != 1 or character in '"\r\n' or not character.isascii():
        raise ValueError(
            f"data.delimiter={delimiter}: must be one character other than a quote, or one of "
            f"{', '.join(word for word in DELIMITERS if word.isalpha())}"
        )
    return character


def _checked_header(where: str, raw: Sequence[str], delimiter: str) -> list[str]:
    """The names of the columns, without the spaces around them.

    The first may be '', if it is an index; or the last, if each row ends with a delimiter.
    """
    header = [name.strip() for name in raw]
    if len(header) < 2:
        others = {word: header[0].count(character) for word, character in DELIMITERS.items()}
        likely = max(others, key=lambda word: others[word])
        way = f"set data.delimiter={likely}" if others[likely] else "a table needs at least two"
        raise ValueError(f"{where}: has only one column, {header[0]!r}; {way}")
    if "" in header[1:-1] or (not header[-1] and len(header) == 2):
        raise ValueError(f"{where}: column {header.index('', 1) + 1} has no name; give it one")
    (name, count), *_ = Counter(header[:-1] if not header[-1] else header).most_common(1)
    if count > 1:
        raise ValueError(f"{where}: two columns are called {name!r}; rename one")
    if all(re.fullmatch(NUMBER, name) for name in header) and header != [str(i) for i in range(len(header))]:
        raise ValueError(
            f"{where}: the first row holds numbers only ({', '.join(header[:3])}, ...); "
            "it must have the names of the columns"
        )
    return header
