"""Columns of a table: numbers, or text as a list of words and a place in it for each row."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from sweepwise.data.limits import refuse_larger
from sweepwise.errors import shell_override

INDEX = re.compile(r"__index_level_\d+__|Unnamed: 0(\.\d+)*")  # pandas' names for an index without one
LISTED = 10  # columns that a note names
TEXT_SHOWN = 40  # characters of a cell in a message


@dataclass(frozen=True, eq=False)
class Text:
    """A column of text.

    Attributes:
        words: the different texts, sorted, (words,).
        places: in `words`, for each row, (rows,); -1 where the cell is missing.
    """

    words: tuple[str, ...]
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)


class Chunked:
    """A long column of numbers in the pieces in which it was read, which is not copied as a whole.

    Args:
        chunks: its pieces in order, each (rows of the piece,) of float64.
    """

    def __init__(self, chunks: Sequence[np.ndarray]) -> None:
        self._chunks = chunks
        self._ends = np.cumsum([len(chunk) for chunk in chunks])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate(self._chunks)

    def __getitem__(self, rows: slice) -> np.ndarray:
        first, last = np.searchsorted(self._ends, [rows.start, rows.stop - 1], side="right")
        before = self._ends[first] - len(self._chunks[first])
        pieces = self._chunks[first : last + 1]
        joined = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return joined[rows.start - before : rows.stop - before]


Values = np.ndarray | Text
Column = Chunked | Values  # (rows,) of float64, NaN where missing, or of truth values; or text


@dataclass(frozen=True, eq=False)
class Cells:
    """A column of text.

    Attributes:
        words: pyarrow's array of its different texts, without the spaces around them, and of null, the last.
        places: in `words`, for each row, (rows,).
    """

    words: Any
    places: np.ndarray

    @cached_property
    def counts(self) -> np.ndarray:
        """How often each word stands in the column, (words,)."""
        return np.bincount(self.places, minlength=len(self.words))

    def missing(self) -> np.ndarray:
        """Whether a row has no value, (rows,)."""
        return np.asarray(self.words.is_null())[self.places]

    def rows(self, kept: np.ndarray) -> Cells:
        """The cells of some rows, (rows,) of truth values."""
        return replace(self, places=self.places[kept])

    def spellings(self) -> list[str]:
        """The different texts in the column."""
        used = zip(self.words.to_pylist(), self.counts, strict=True)
        return list(dict.fromkeys(word for word, count in used if word is not None and count))

    def text(self, where: str, name: str) -> Text:
        """The same as sorted words and their places.

        Raises:
            ValueError: the words would take too much memory.
        """
        words = sorted(self.spellings())
        refuse_larger(where, sum(map(len, words)), f"the words of column {name!r}")
        rank = {word: place for place, word in enumerate(words)}
        ranks = [-1 if word is None else rank.get(word, -1) for word in self.words.to_pylist()]
        return Text(tuple(words), np.array(ranks, np.int64)[self.places])


@dataclass(frozen=True, eq=False)
class Target:
    """The column to be predicted, as exactly as the file has it.

    Attributes:
        values: (rows,) whole numbers, real numbers, truth values or text; anything where missing.
        missing: (rows,) whether there is no value.
        cells: the text from which the numbers were read; None if they were not read from text.
    """

    values: Values
    missing: np.ndarray
    cells: Cells | None = None

    def rows(self, kept: np.ndarray) -> Target:
        """The target of some rows, (rows,) of truth values."""
        cells = None if self.cells is None else self.cells.rows(kept)
        return Target(rows_of(self.values, kept), self.missing[kept], cells)


@dataclass(frozen=True)
class Wanted:
    """What is asked of a table; see `table`.

    Attributes:
        where: the config key and value of the path, for messages.
        target: the column to be predicted; None: the last one.
        drop: columns to leave out.
        part: the column that says in which part a row is; None: there is none.
        categories: columns whose values are categories, whatever they look like; the one of parts is one.
        missing: texts of cells without a value; None: the usual ones.
        labels: whether the target is classes for sure.
    """

    where: str
    target: str | None
    drop: Sequence[str]
    part: str | None
    categories: Sequence[str]
    missing: Sequence[str] | None
    labels: bool


@dataclass(frozen=True, eq=False)
class Table:
    """What was read.

    Attributes:
        name: of the target.
        target: its column.
        features: the others, by name, in the order of the file.
        notes: what was left out.
    """

    name: str
    target: Target
    features: Mapping[str, Column]
    notes: list[str]


def chosen(wanted: Wanted, names: Sequence[str], index: Collection[str]) -> tuple[str, list[str]]:
    """The name of the target, and those of the features.

    Args:
        wanted: what is asked for.
        names: of all columns.
        index: those that number or name the rows, which only an explicit `data.target` takes.

    Raises:
        ValueError: a name is unknown, or nothing is left.
    """
    parts = [] if wanted.part is None else [wanted.part]
    for key, asked in (("part", parts), ("drop", wanted.drop), ("categories", wanted.categories)):
        for name in asked:
            if name not in names:
                raise ValueError(f"data.{key}={name}: no column of {wanted.where}; {_hint(key, name, names)}")
    kept = [name for name in names if name not in wanted.drop]
    if wanted.target is not None and wanted.target not in kept:
        dropped = "left out by data.drop" if wanted.target in names else "no column"
        hint = _hint("target", wanted.target, kept)
        raise ValueError(f"data.target={wanted.target}: {dropped} of {wanted.where}; {hint}")
    if wanted.part is not None and wanted.part in (wanted.target, *wanted.drop):
        raise ValueError(f"data.part={wanted.part}: must not be the target or one of data.drop too")
    plain = [name for name in kept if name not in index and name != wanted.part]
    target = wanted.target if wanted.target is not None else "".join(plain[-1:])
    features = [name for name in plain if name != target]
    if not features:
        raise ValueError(
            f"{wanted.where}: has no column besides the target; it must have at least one feature"
        )
    return target, [*features, *parts]


def _hint(key: str, name: str, names: Sequence[str]) -> str:
    """The override with the name nearest to an unknown one, or else all names."""
    if not (near := difflib.get_close_matches(name, names, 1)):
        return f"there is {names_listed(names)}"
    return f"did you mean {shell_override(f'data.{key}', near[0] if key in ('target', 'part') else near)}?"


def rows_of(column: Column, kept: np.ndarray) -> Values:
    """Some rows of a column, (rows,) of truth values; words that only other rows have are gone."""
    if not isinstance(column, Text):
        return np.asarray(column)[kept]
    used, places = np.unique(column.places[kept], return_inverse=True)
    absent = int((used < 0).sum())
    return Text(tuple(column.words[place] for place in used[absent:]), places - absent)


def numbers(cells: Any) -> np.ndarray:
    """A column of pyarrow as float64, NaN where missing; whole numbers beyond 2^53 are rounded."""
    from pyarrow import float64

    return np.asarray(cells.cast(float64(), safe=False))


def names_listed(names: Collection[str]) -> str:
    """Some names for a note, and how many more there are."""
    first = ", ".join(list(names)[:LISTED])
    return first + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def shown(word: str) -> str:
    """A cell's text, shortened to one line."""
    line = " ".join(word.split())
    return line if len(line) <= TEXT_SHOWN else f"{line[: TEXT_SHOWN - 3]}..."
