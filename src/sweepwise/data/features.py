"""Turns the columns of a table into features, and notes which of them may be none."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from sweepwise.data.columns import Column, Text, names_listed
from sweepwise.data.filling import Feature
from sweepwise.data.limits import refuse_larger
from sweepwise.errors import shell_override

MOST_CATEGORIES = 100
BLOCK_ROWS, BLOCK_BYTES = 2**11, 2**20  # of features at a time
EXACT = 2**53  # whole numbers beyond are rounded as float64
DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})([T ].*)?")
VERSION = re.compile(r"v?\d+(\.\d+){2,}")  # 1.10.3
SIGNED = re.compile(r"[^\w\s.+-] ?[+-]?\d+([.,]\d+)?|[+-]?\d+([.,]\d+)? ?[^\w\s.]")  # $5, 12 %


def encoded(where: str, columns: Mapping[str, Column]) -> tuple[tuple[Feature, ...], np.ndarray]:
    """The features of a table: a number each, or for a column of text one of 0 and 1 for each word.

    Args:
        where: the config key and value, for messages.
        columns: by name, (rows,) each.

    Returns:
        What the features are; and x: (rows, features) of float64, NaN where a cell is missing.

    Raises:
        ValueError: a column has too many words, or the features would take too much memory.
    """
    for name, column in columns.items():
        if isinstance(column, Text) and len(column.words) > MOST_CATEGORIES:
            kind = "dates" if _are_dates(column) else "texts"
            raise ValueError(
                f"{where}: column {name!r} holds {len(column.words)} different {kind}, more than the "
                f"{MOST_CATEGORIES} that can be categories; leave it out by "
                f"{shell_override('data.drop', [name])}"
            )
    features = tuple(
        Feature(name, column.words if isinstance(column, Text) else None) for name, column in columns.items()
    )
    width = sum(feature.width for feature in features)
    rows = len(next(iter(columns.values())))
    refuse_larger(where, 8 * rows * width, f"{width} features of {rows} rows")
    x = np.empty((rows, width))
    block = max(BLOCK_ROWS, BLOCK_BYTES // (8 * width))  # stays in the cache while its columns are written
    starts = np.cumsum([0, *(feature.width for feature in features)]).tolist()
    plain = [feature for feature in features if feature.words is None]
    for first in range(0, rows, block):
        part = slice(first, min(first + block, rows))
        if width > len(plain):
            x[part] = 0  # in the cache: an array of zeros would be another pass
        for start, feature, column in zip(starts, features, columns.values(), strict=False):
            if isinstance(column, Text):
                places = column.places[part]
                ones = np.arange(part.start, part.stop) * width + (start + places)
                if places.size and places.min() < 0:
                    x[part, start : start + feature.width][places < 0] = np.nan
                    ones = ones[places >= 0]
                x.reshape(-1)[ones] = 1
            else:
                x[part, start] = column[part]
    return features, x


def remarks(columns: Mapping[str, Column], features: tuple[Feature, ...], x: np.ndarray) -> list[str]:
    """Notes about columns of text, and about those that may be no features.

    Args:
        columns: by name.
        features: what they have become.
        x: the features themselves.
    """
    texts = {name: column for name, column in columns.items() if isinstance(column, Text)}
    starts = np.cumsum([0, *(feature.width for feature in features)])
    plain = [(f.name, start) for f, start in zip(features, starts, strict=False) if f.words is None]
    numbers = np.array([start for _, start in plain], np.int64)
    with np.errstate(invalid="ignore", over="ignore"):
        low, high = _extremes(x, numbers)
        spans = high - low
    names = [name for name, _ in plain]
    constant = [name for name, equal in zip(names, low == high, strict=True) if equal]
    constant += [name for name, column in texts.items() if len(column.words) < 2]
    counting = [
        name
        for (name, start), span in zip(plain, spans, strict=True)
        if span == len(x) - 1 and span > 0 and counts_rows(x[:, start])
    ]
    counting += [name for name, column in texts.items() if len(x) > 2 and len(column.words) == len(x)]
    wide = [
        name
        for (name, start), most in zip(plain, np.maximum(-low, high), strict=True)
        if most > EXACT and (x[:, start] == np.floor(x[:, start])).all()
    ]
    dates = [name for name, column in texts.items() if _are_dates(column)]
    versions = [name for name, column in texts.items() if all(map(VERSION.fullmatch, column.words))]
    signed = [name for name, column in texts.items() if all(map(SIGNED.fullmatch, column.words))]
    counts = {f"{name} ({len(column.words)})": name for name, column in texts.items()}
    return [
        f"{what}: {names_listed(found)}{way and f'; {way} ' + _drop(list(found))}"
        for what, found, way in (
            ("columns of text as categories, one feature each", list(counts), ""),
            ("dates as categories, each a word without an order", dates, "leave out by"),
            ("versions as categories, each a word without an order", versions, "leave out by"),
            ("numbers with signs as categories; they become numbers without their signs", signed, ""),
            ("the same value in all rows, of no use", constant, ""),
            (
                "another value in each row, as a number or name of it",
                counting,
                "if it is one, leave it out by",
            ),
            (
                "whole numbers beyond 2^53, rounded as float64",
                wide,
                "if they are codes, leave them out by",
            ),
        )
        if found
    ]


def _extremes(x: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest value of some columns, in ascending order, but for NaN; (columns,) each."""
    runs = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1) if columns.size else []
    parts = [x[:, run[0] : run[-1] + 1] for run in runs]  # views: the others may be many
    least, most = ([reduce(part, 0) for part in parts] for reduce in (np.fmin.reduce, np.fmax.reduce))
    return np.concatenate([np.empty(0), *least]), np.concatenate([np.empty(0), *most])


def _drop(names: list[str]) -> str:
    return shell_override("data.drop", names[:10])


def counts_rows(values: np.ndarray) -> bool:
    """Whether values are so many whole numbers in a row, in any order."""
    return len(values) > 2 and bool(np.array_equal(np.sort(values), np.arange(len(values)) + values.min()))


def _are_dates(column: Text) -> bool:
    return bool(column.words) and all(map(DATE.fullmatch, column.words))
