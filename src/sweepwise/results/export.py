"""Tables of results as CSV, Parquet and pandas."""

from __future__ import annotations

import io
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweepwise.errors import UsageError
from sweepwise.results.run_folder import shown
from sweepwise.system.atomic import write_atomic

if TYPE_CHECKING:
    from pandas import DataFrame
    from pyarrow import Table

FORMS = (".csv", ".parquet")


def write(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Writes records as a table; the file is put in place whole.

    Raises:
        UsageError: the path ends in neither .csv nor .parquet, or its folder is missing.
    """
    check(path, FORMS)
    from pyarrow import csv, parquet

    table, content = _arrow(records), io.BytesIO()
    csv.write_csv(table, content) if path.suffix == ".csv" else parquet.write_table(table, content)
    write_atomic(path, content.getvalue())


def check(path: Path, forms: Sequence[str]) -> None:
    """Refuses a path to which nothing of these forms can be written.

    Raises:
        UsageError: the path ends in none of them, or its folder is missing.
    """
    if path.suffix not in forms:
        raise UsageError([f"{path}: must end in {' or '.join(forms)}"])
    if not path.parent.is_dir():
        raise UsageError([f"{path}: must lie in a folder that exists"])


def data_frame(records: Sequence[Mapping[str, Any]]) -> DataFrame:
    """Records as a data frame.

    Raises:
        UsageError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise UsageError(["to_pandas: needs pandas; `pip install pandas`, or use records()"]) from error
    return pandas.DataFrame({name: _plain(values) for name, values in _columns(records).items()})


def _arrow(records: Sequence[Mapping[str, Any]]) -> Table:
    import pyarrow

    return pyarrow.table(
        {_encodable(name): pyarrow.array(_arrow_values(values)) for name, values in _columns(records).items()}
    )


def _arrow_values(values: Sequence[Any]) -> list[Any]:
    return [_encodable(value) if isinstance(value, str) else value for value in _plain(values)]


def _encodable(text: str) -> str:
    r"""A text with what no encoding has, such as bytes of a folder's name, as \udc80."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _columns(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def _plain(values: Sequence[Hashable]) -> list[Any]:
    """The values of one column: as they are if all are of one kind, else as text."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1 and not kinds & {tuple}:
        return list(values)
    if kinds == {int, float}:
        return [float(value) if isinstance(value, (int, float)) else None for value in values]
    return [None if value is None else shown(value) for value in values]
