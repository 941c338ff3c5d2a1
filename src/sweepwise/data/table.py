"""Your own table: a csv, parquet or npz file."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np

from sweepwise.config.schema import checked
from sweepwise.data.cells import MISSING, NUMBER
from sweepwise.data.channels import Channels
from sweepwise.data.columns import Column, Table, Text, Wanted, names_listed, rows_of
from sweepwise.data.csv_file import TABS, read_csv
from sweepwise.data.dataset import Arrays
from sweepwise.data.doubtful import PLACEHOLDERS
from sweepwise.data.features import counts_rows, encoded, remarks
from sweepwise.data.filling import Encoding, Missing
from sweepwise.data.joined import PART, joined
from sweepwise.data.npz_file import as_table, of_arrays, read_arrays
from sweepwise.data.parquet_file import read_parquet
from sweepwise.data.reading import Reading
from sweepwise.data.targets import Task, find_in_table
from sweepwise.errors import shell_override

PARTS = {"train": 0, "training": 0, "validation": 1, "val": 1, "valid": 1, "dev": 1, "test": 2, "testing": 2}


@checked("data")
def table(
    *,
    path: str,
    target: str | None = None,
    task: Task = "auto",
    drop: Sequence[str] = (),
    categories: Sequence[str] = (),
    missing: Missing = "refuse",
    missing_values: Sequence[str] | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
    channels: Channels | None = None,
    part: str | None = None,
    validation_path: str | None = None,
    test_path: str | None = None,
) -> Arrays:
    """Reads a table; finds out whether its target is classes or real numbers, and adds a note that says it.

    A column of text becomes categories: one feature of 0 and 1 for each of its values, in sorted order.
    An .npz has arrays instead of columns: features `x`, (examples, *features), or the only one beside the
    target, and targets `y`.

    Args:
        path: of a .csv, .tsv, .parquet or .npz file, from the working directory.
        target: column or array of the targets; null: the last column, or `y`.
        task: what the target is; 'auto': it is found out.
        drop: columns to leave out, such as names and row numbers.
        categories: columns whose values are categories though they look like numbers, such as codes.
        missing: what is done about missing values. 'refuse': nothing; 'drop': their rows are left out;
            'median': they become the median of the column over the training part, in text the most frequent
            value; 'most_frequent': the most frequent value; 'indicator': the median, in text none of the
            categories, and a feature of 0 and 1 says where. Rows without a target are left out by all but
            the first.
        missing_values: texts that stand for a missing value, '' for an empty cell; null: the usual ones
            (`columns.MISSING`) in a csv file, the empty text in a parquet file.
        delimiter: between the cells of a csv file, a character or comma, semicolon, tab, space or pipe;
            null: a comma, in a .tsv file a tab.
        decimal: point or comma, in the numbers of a csv file; null: a point.
        channels: where the channels of an .npz file's images or sequences are: 'first' (examples, channels,
            ...), 'last', or 'none': each example has one, without an axis; null: first, and a shape that
            looks otherwise is refused.
        part: column that says in which part a row is: train, validation (or val) and test; null: there is
            none. Of a part without rows, the fraction of `split` is taken from the training part.
        validation_path: of a file whose rows are the validation part, with the same columns; null: there is
            none.
        test_path: of a file whose rows are the test part; null: there is none.

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
    as_words = (*categories, *([] if part is None else [part]))
    wanted = Wanted(where, target, drop, part, as_words, missing_values, task == "classification")
    more = {"validation": validation_path, "test": test_path}
    if file.suffix.lower() == ".npz":
        of_columns = {"drop": drop, "categories": categories, "missing_values": missing_values, "part": part}
        files = {f"{name}_path": other for name, other in more.items()}
        _refuse_unread(where, "an .npz file", **of_columns, **files, delimiter=delimiter, decimal=decimal)
        _refuse_absent(where, file)
        named, arrays, y, remarks_on_shape = read_arrays(where, file, target, channels)
        if missing == "refuse":
            return of_arrays(where, file, named, arrays, y, task, remarks_on_shape, channels)
        if arrays.ndim > 2:
            raise ValueError(f"data.missing={missing}: must be refuse, as {where} has no columns of numbers")
        read = as_table(named, arrays, y)
    else:
        _refuse_unread(where, "a table of columns", channels=channels)
        read = _of_columns(wanted, file, delimiter, decimal)
    given = {name: other for name, other in more.items() if other is not None}
    _refuse_same({"path": path} | {f"{name}_path": other for name, other in given.items()})
    if given and part is not None:
        raise ValueError(f"data.part={part}: must be null with files of their own for the parts")
    if given:
        keys = {"train": where} | {name: f"data.{name}_path={other}" for name, other in given.items()}
        others = {
            name: _of_columns(
                replace(wanted, where=keys[name], target=read.name), Path(other), delimiter, decimal
            )
            for name, other in given.items()
        }
        read, part = joined({"train": read} | others, keys), PART
    if part is not None and missing != "drop":
        _refuse_unnamed(part, read.features[part])
    read = _without_gaps(where, read, missing)
    try:
        targets = find_in_table(f"target {read.name!r}", read.target, task)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    columns = dict(read.features)
    parts = None if part is None else _parts(f"data.part={part}", columns.pop(part))
    features, x = encoded(where, columns)
    if not targets.classes and counts_rows(targets.y):
        other = "choose another column by data.target if it is only that"
        read.notes.append(f"target {read.name!r} is another number in each row, like the row's own; {other}")
    notes = (targets.note, *read.notes, *remarks(columns, features, x), *_placeholders(wanted, read))
    absent = MISSING if file.suffix.lower() in (".csv", *TABS) else ("",)
    return Arrays(
        file.name,
        x,
        targets.y,
        targets.classes,
        notes=notes,
        encoding=Encoding(features, missing),
        parts=parts,
        labels=targets.labels,
        reading=Reading(
            read.name,
            tuple(absent if missing_values is None else missing_values),
            delimiter,
            decimal or "point",
        ),
    )


def _refuse_same(files: Mapping[str, str]) -> None:
    """Refuses one file for two parts."""
    for (one, first), (other, second) in itertools.combinations(files.items(), 2):
        if Path(first).exists() and Path(second).exists() and Path(first).samefile(second):
            raise ValueError(f"data.{other}={second}: must be another file than data.{one}")


def _placeholders(wanted: Wanted, read: Table) -> Iterator[str]:
    """Notes about words that often stand for a missing value, and are taken as a category or class."""
    columns = dict(read.features) | {read.name: read.target.values}
    known = MISSING if wanted.missing is None else wanted.missing
    texts = {name: column.words for name, column in columns.items() if isinstance(column, Text)}
    for name, words in texts.items():
        found = [word for word in PLACEHOLDERS if word in words]
        if found and len(words) > len(found):
            yield (
                f"{name!r} holds {' and '.join(map(repr, found))}, taken as a value of its own; if it stands "
                f"for missing ones, set {shell_override('data.missing_values', [*known, *found])}"
            )


def _refuse_unnamed(part: str, column: Column) -> None:
    if absent := int(_missing(column).sum()):
        raise ValueError(
            f"data.part={part}: {absent} of {len(column)} rows name no part; name one in each, or leave "
            "these rows out by data.missing=drop"
        )


def _parts(where: str, column: Column) -> np.ndarray:
    """The part of each row, (rows,): 0 training, 1 validation, 2 test.

    Raises:
        ValueError: a word names no part.
    """
    assert isinstance(column, Text)
    unknown = [word for word in column.words if word.lower() not in PARTS]
    if unknown:
        raise ValueError(
            f"{where}: must hold train, validation (or val) and test only, and holds {names_listed(unknown)}"
        )
    return np.array([PARTS[word.lower()] for word in column.words])[column.places]


def _of_columns(wanted: Wanted, file: Path, delimiter: str | None, decimal: str | None) -> Table:
    _refuse_absent(wanted.where, file)
    kind = file.suffix.lower()
    if kind in (".csv", *TABS):
        return _without_numbers(read_csv(wanted, file, delimiter, decimal), wanted.missing or ())
    if kind == ".parquet":
        _refuse_unread(wanted.where, "a parquet file", delimiter=delimiter, decimal=decimal)
        return _without_numbers(read_parquet(wanted, file), wanted.missing or ())
    raise ValueError(f"{wanted.where}: must end in .csv, .tsv, .parquet or .npz")


def _without_numbers(read: Table, missing: Sequence[str]) -> Table:
    """The table where numbers that stand for missing values are missing, however they are written."""
    exact = [Decimal(word) for word in missing if re.fullmatch(NUMBER, word)]
    codes = [float(code) for code in exact]
    if not codes:
        return read
    features: dict[str, Column] = {}
    for name, column in read.features.items():
        kept = column if isinstance(column, Text) else np.asarray(column)
        if not isinstance(kept, Text) and kept.dtype.kind == "f" and (coded := np.isin(kept, codes)).any():
            kept = np.where(coded, np.nan, kept)
        features[name] = kept
    target = read.target
    if not isinstance(target.values, Text) and target.values.dtype.kind in "iuf":
        among: np.ndarray = np.array(codes)
        if target.values.dtype.kind in "iu":  # as floats, whole numbers beyond 2^53 would be one
            bounds = np.iinfo(target.values.dtype)
            finite = [code for code in exact if code.is_finite() and bounds.min <= code <= bounds.max]
            whole = [int(code) for code in finite if code == int(code)]
            among = np.array(whole, target.values.dtype)
        target = replace(target, missing=target.missing | np.isin(target.values, among))
    return replace(read, features=features, target=target)


def _refuse_absent(where: str, file: Path) -> None:
    if not file.is_file():
        rule = "must be a file, not a folder or device" if file.exists() else "no such file"
        raise ValueError(f"{where}: {rule}, seen from {Path.cwd()}")


def _refuse_unread(where: str, kind: str, **given: object) -> None:
    """Refuses keys that are set and that no reader of the file would look at."""
    for key, value in given.items():
        if value not in (None, ()):
            raise ValueError(f"data.{key}: must be left as it is, as {where} is {kind}, which has none")


def _without_gaps(where: str, read: Table, missing: Missing) -> Table:
    """The table without missing values, or with those of features only, as `data.missing` says.

    Raises:
        ValueError: values are missing and that is refused; values are infinite; or no row is left.
    """
    rows = len(read.target.missing)
    broken = {name: column for name, column in read.features.items() if not _whole(column)}
    absent = {name: gaps for name, column in broken.items() if (gaps := _missing(column)).any()}
    infinite = [f"{name} ({count})" for name, column in broken.items() if (count := _infinite(column))]
    if infinite:
        raise ValueError(
            f"{where}: values that are not finite in column {names_listed(infinite)}; correct them, or leave "
            "out these columns by data.drop"
        )
    if empty := [name for name, gaps in absent.items() if gaps.all()]:
        raise ValueError(
            f"{where}: no value in column {names_listed(empty)}; leave it out by "
            f"{shell_override('data.drop', empty[:10])}"
        )
    counts = [f"{name} ({gaps.sum()})" for name, gaps in absent.items()]
    if read.target.missing.any():
        counts.append(f"{read.name} ({read.target.missing.sum()}), the target")
    if not counts:
        return read
    if missing == "refuse":
        names = list(absent)
        way = f", or leave out columns by {shell_override('data.drop', names[:10])}" if names else ""
        raise ValueError(
            f"{where}: of {rows} rows values are missing in column {names_listed(counts)}; "
            "data.missing=drop leaves out their rows, data.missing=median, most_frequent or indicator fills "
            f"features in{way}"
        )
    gaps = read.target.missing.copy()
    if missing == "drop":
        gaps = np.logical_or.reduce([gaps, *absent.values()])
    if not gaps.any():
        return read
    if gaps.all():
        raise ValueError(f"data.missing={missing}: no row of {where} is left; each misses a value")
    why = f"missing values of {names_listed(counts if missing == 'drop' else counts[-1:])}"
    note = f"data.missing={missing}: {gaps.sum()} of {rows} rows are left out, for {why}"
    kept = {name: rows_of(column, ~gaps) for name, column in read.features.items()}
    return Table(read.name, read.target.rows(~gaps), kept, [*read.notes, note])


def _whole(column: Column) -> bool:
    """Whether no value is missing or infinite."""
    return bool((column.places >= 0).all() if isinstance(column, Text) else np.isfinite(column).all())


def _missing(column: Column) -> np.ndarray:
    return column.places < 0 if isinstance(column, Text) else np.isnan(column)


def _infinite(column: Column) -> int:
    return 0 if isinstance(column, Text) else int(np.isinf(column).sum())
