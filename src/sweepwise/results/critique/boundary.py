"""Where runs begin to fail, in terms of one key or of two."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from sweepwise.results.table import Row, Table

FEW = 8  # values of a key by which the boundary is told


@dataclass(frozen=True)
class Boundary:
    """Where runs begin to fail.

    Attributes:
        key: that decides.
        high: whether its large values fail; None: it is no number.
        failing: first value that fails, by the value of `by`; None: none of its values does.
        by: another key on which the boundary depends; '' if it does not.
        failed: runs that failed.
        beyond: those of them that lie beyond the boundary.
        runs: beyond the boundary.
        p: of the key, for all keys together.
    """

    key: str
    high: bool | None
    failing: Mapping[Hashable, Hashable]
    by: str
    failed: int
    beyond: int
    runs: int
    p: float


def described(table: Table, key: str, high: bool | None, rows: Sequence[Row], p: float) -> Boundary:
    """The boundary in terms of one key, and of another one where that tells failures better."""
    place = table.settings.index(key)
    known = [row for row in rows if row.setting[place] is not None]
    plain = _cut(known, place, high)
    best: dict[Hashable, Hashable] = {None: plain}
    by = ""
    wrong = _wrong(known, place, high, -1, best)
    for other, name in enumerate(table.settings):
        values = dict.fromkeys(row.setting[other] for row in known)
        if other == place or not 2 <= len(values) <= FEW:
            continue
        cuts: dict[Hashable, Hashable] = {
            value: _cut([row for row in known if row.setting[other] == value], place, high)
            for value in values
        }
        errors = _wrong(known, place, high, other, cuts)
        if errors < wrong - 1:
            best, by, wrong = cuts, name, errors
    if all(cut is None for cut in best.values()):  # no value makes most runs fail
        best, by = {None: _sharpest(known, place, high)}, ""
    other = table.settings.index(by) if by else -1
    beyond = [row for row in known if is_beyond(row, place, high, other, best)]
    failed = sum(row.failed for row in rows)
    return Boundary(key, high, best, by, failed, sum(row.failed for row in beyond), len(beyond), min(p, 1.0))


def _cut(rows: Sequence[Row], place: int, high: bool | None) -> Hashable:
    """The value from which on runs fail: the one that tells failures from others best; None: no value."""
    values = list(dict.fromkeys(row.setting[place] for row in rows))
    if high is None:
        counts = {value: [row.failed for row in rows if row.setting[place] == value] for value in values}
        worst = max(counts, key=lambda value: sum(counts[value]) / len(counts[value]))
        return worst if 2 * sum(counts[worst]) > len(counts[worst]) else None
    ordered = sorted(values, key=lambda value: float(str(value)), reverse=not high)
    counted = {value: [0, 0] for value in ordered}
    for row in rows:
        counted[row.setting[place]][row.failed] += 1
    wrong = sum(row.failed for row in rows)  # none is said to fail
    best: Hashable = None
    least = wrong
    for value in reversed(ordered):
        wrong += counted[value][0] - counted[value][1]
        if wrong < least:
            best, least = value, wrong
    return best


def _sharpest(rows: Sequence[Row], place: int, high: bool | None) -> Hashable:
    """The value from which on the share of failures differs most from that elsewhere, in standard errors."""

    def distance(value: Hashable) -> float:
        there = [row.failed for row in rows if is_beyond(row, place, high, -1, {None: value})]
        n, rest = len(there), len(rows) - len(there)
        if not rest:
            return -math.inf
        failed = sum(row.failed for row in rows)
        return (sum(there) / n - (failed - sum(there)) / rest) / math.sqrt(1 / n + 1 / rest)

    return max(dict.fromkeys(row.setting[place] for row in rows), key=distance)


def is_beyond(row: Row, place: int, high: bool | None, other: int, cuts: Mapping[Hashable, Hashable]) -> bool:
    """Whether a run lies beyond the boundary; `other`: place of the key that it depends on, -1 for none."""
    cut = cuts[row.setting[other] if other >= 0 else None]
    if cut is None:
        return False
    value = row.setting[place]
    if high is None:
        return value == cut
    at, limit = float(str(value)), float(str(cut))
    return at >= limit if high else at <= limit


def _wrong(
    rows: Sequence[Row], place: int, high: bool | None, other: int, cuts: Mapping[Hashable, Hashable]
) -> int:
    return sum(row.failed != is_beyond(row, place, high, other, cuts) for row in rows)
