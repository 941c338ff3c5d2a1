"""The settings that a finding is about, best first, and lists of values as they are written."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence

from sweepwise.improvement import limits
from sweepwise.results.answer import Answer
from sweepwise.results.critique.contrast import within
from sweepwise.results.critique.design import cost
from sweepwise.results.run_folder import shown
from sweepwise.results.table import Row, Table, Values

MARGIN = 0.95  # standard deviations of a run: less is what another seed may undo (`verdict.default_margin`)


def best_at(answer: Answer, key: str, value: Hashable = None) -> list[Values]:
    """The best setting with this value of a key, or of all where it is None; [] if none has a result."""
    place = answer.table.settings.index(key)
    for ranked in answer.ranking:
        if ranked.estimate and value in (None, ranked.setting[place]):
            return [ranked.setting]
    return []


def leaders(answer: Answer, most: int) -> list[Values]:
    """The best settings: a quarter of those with a result and no failure, two at least, `most` at most."""
    whole = [ranked.setting for ranked in answer.ranking if ranked.estimate and not ranked.failed]
    return whole[: max(2, min(most, math.ceil(len(whole) / 4)))]


def spread(table: Table, cells: Iterable[Sequence[Row]]) -> float:
    """Standard deviation between the replicates of settings; NaN where none was repeated."""
    samples = [
        {row.replicate: cost(table, row.value) for row in rows if row.ended and row.value is not None}
        for rows in cells
    ]
    squares, df = within([sample for sample in samples if sample])
    return math.sqrt(squares / df) if df else math.nan


def least_cost(table: Table) -> float:
    """The least cost that a table's metric can have; -inf where it has no limit."""
    low, high = limits(table.metric)
    return low if table.sign == 1 else -high


def written(values: Iterable[Hashable]) -> str:
    """Values as a list: '0.1, 0.3'."""
    return ", ".join(map(shown, values))
