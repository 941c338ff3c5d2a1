"""Finds out what cells of text hold: whole or real numbers, or words.

A column is looked at by its different texts, which are few in most columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sweepwise.data.columns import Cells, Target, Values, Wanted, numbers, shown
from sweepwise.errors import shell_override

# What csv files write for a cell without a value. Upper and lower case differ: 'Na' is sodium.
MISSING = ("", "NA", "na", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "NULL", "Null", "null")
# These are for RE2, which pyarrow uses.
NUMBER = r"^[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:inf|infinity|nan))$"
WHOLE = r"^[+-]?[0-9]+$"
# Numbers as other programs and countries write them.
DECIMAL_COMMA = r"^[+-]?(?:[0-9]+|[0-9]{1,3}(?:\.[0-9]{3})+),[0-9]+(?:[eE][+-]?[0-9]+)?$"
POINTS_AND_COMMA = r"^[+-]?[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+$"  # 1.234,5 where decimals stand after a comma
POINTS = r"^[+-]?[0-9]{1,3}(?:\.[0-9]{3})+$"
MINUS = "\u2212"  # of typesetting
THOUSANDS = r"^[+-]?[0-9]{1,3}(?:[,.'’ \x{00a0}\x{202f}][0-9]{3})+(?:[.,][0-9]+)?$"


def cells_of(column: Any, missing: Sequence[str]) -> Cells:
    """A column of pyarrow's text, or of its dictionary of text.

    Args:
        column: (rows,), chunked.
        missing: the texts that stand for no value.
    """
    import pyarrow
    from pyarrow import compute, types

    if types.is_dictionary(column.type):
        chunks = column.unify_dictionaries().chunks
    else:  # encoded as one, as a dictionary of each chunk would be put together again and again
        chunks = [column.cast(pyarrow.large_string()).combine_chunks().dictionary_encode()]
    words = chunks[0].dictionary.cast(pyarrow.large_string()) if chunks else pyarrow.array([], "large_string")
    words = compute.utf8_trim_whitespace(words)
    absent = compute.is_in(words, value_set=pyarrow.array(missing, words.type))
    words = compute.if_else(absent, pyarrow.scalar(None, words.type), words)
    words = pyarrow.concat_arrays([words, pyarrow.nulls(1, words.type)])
    places = [np.asarray(chunk.indices.fill_null(len(words) - 1)) for chunk in chunks]
    return Cells(words, np.concatenate([np.empty(0, np.int32), *places]))


def numbers_or_text(wanted: Wanted, name: str, cells: Cells, comma: bool) -> Values:
    """A feature: numbers if all cells are numbers, else text.

    Args:
        wanted: what is asked for.
        name: of the column.
        cells: of the column.
        comma: whether decimals stand after a comma.

    Raises:
        ValueError: some cells are no numbers, but most are; or all are, written in another way.
    """
    from pyarrow import compute

    if name in wanted.categories:
        return cells.text(wanted.where, name)
    plain = with_point(cells.words, comma)
    numeric = compute.match_substring_regex(plain, NUMBER)
    counts, missing = cells.counts, np.asarray(cells.words.is_null())
    other = counts * ~np.asarray(numeric.fill_null(True))
    if not other.any():
        return numbers(plain)[cells.places]
    _refuse_other_decimals(wanted, name, cells, comma)
    if 2 * other.sum() < counts[~missing].sum():
        first = cells.words[int(np.flatnonzero(other)[0])].as_py()
        known = MISSING if wanted.missing is None else wanted.missing
        raise ValueError(
            f"{wanted.where}: column {name!r}: {other.sum()} of {len(cells.places)} values are not numbers, "
            f"such as {shown(first)!r}, but the others are; correct them, leave out the column by "
            f"{shell_override('data.drop', [name])}, make all its values categories by "
            f"{shell_override('data.categories', [name])}, or name what stands for missing values by "
            f"{shell_override('data.missing_values', [*known, first])}"
        )
    return cells.text(wanted.where, name)


def target_of(wanted: Wanted, name: str, cells: Cells, comma: bool) -> Target:
    """The target: whole numbers stay whole, however large, and other numbers become float64.

    Args:
        wanted: what is asked for.
        name: of the column.
        cells: of the column.
        comma: whether decimals stand after a comma.

    Raises:
        ValueError: all are numbers, written in another way.
    """
    from pyarrow import compute

    plain = with_point(cells.words, comma)
    missing = cells.missing()
    used = (cells.counts > 0) & ~np.asarray(cells.words.is_null())
    numeric = np.asarray(compute.match_substring_regex(plain, NUMBER).fill_null(False))
    if name in wanted.categories or not (used.any() and numeric[used].all()):
        if not wanted.labels and name not in wanted.categories:
            _refuse_other_decimals(wanted, name, cells, comma)
        return Target(cells.text(wanted.where, name), missing)
    return Target(_exact(plain)[cells.places], missing, replace(cells, words=plain))


def with_point(words: Any, comma: bool) -> Any:
    """Numbers with a decimal point, and a hyphen for any minus.

    Where decimals stand after a comma, a number that has a point is none, unless points separate thousands:
    that is so where some number has both.
    """
    from pyarrow import compute

    if compute.any(compute.match_substring(words, MINUS)).as_py():
        words = compute.replace_substring_regex(words, f"^{MINUS}([0-9.,])", r"-\1")
    if not comma:
        return words
    grouped = compute.match_substring_regex(words, POINTS_AND_COMMA)
    if compute.any(grouped).as_py():
        grouped = compute.or_(grouped, compute.match_substring_regex(words, POINTS))
        words = compute.if_else(grouped, compute.replace_substring(words, ".", ""), words)
    return compute.replace_substring(compute.replace_substring(words, ".", "?"), ",", ".")


def _exact(words: Any) -> np.ndarray:
    """Numbers, 0 where missing: as whole numbers of 64 bits where all of them are such, else as float64."""
    import pyarrow
    from pyarrow import compute

    words = compute.fill_null(words, "0")
    if compute.all(compute.match_substring_regex(words, WHOLE)).as_py():
        unsigned = compute.replace_substring_regex(words, r"^\+", "")
        for kind in (pyarrow.int64(), pyarrow.uint64()):
            try:
                return np.asarray(unsigned.cast(kind))
            except pyarrow.ArrowInvalid:
                continue
    return numbers(words)


def _refuse_other_decimals(wanted: Wanted, name: str, cells: Cells, comma: bool) -> None:
    """Refuses a column of text whose words are all numbers, but not as `data.decimal` says.

    Raises:
        ValueError: they are.
    """
    from pyarrow import compute

    used = (cells.counts > 0) & ~np.asarray(cells.words.is_null())
    decimals = {"decimal points": NUMBER} if comma else {"decimal commas": DECIMAL_COMMA}
    every = np.asarray(compute.match_substring_regex(with_point(cells.words, comma), NUMBER).fill_null(True))
    for what, form in (decimals | {"separators of thousands": THOUSANDS}).items():
        matching = np.asarray(compute.match_substring_regex(cells.words, form).fill_null(False))
        every = every | matching
        if used.any() and every[used].all():
            first = cells.words[int(np.flatnonzero(matching & used)[0])].as_py()
            way = f"set data.decimal={'point' if comma else 'comma'}, or " if what in decimals else ""
            raise ValueError(
                f"{wanted.where}: column {name!r} holds numbers with {what}, such as {shown(first)!r}; {way}"
                "remove what separates thousands, or make its values categories by "
                f"{shell_override('data.categories', [name])}"
            )
