"""The answer of a sweep: which settings are best, what is better than what, and how sure that is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sweepwise.errors import UsageError
from sweepwise.improvement import limits
from sweepwise.results import loading
from sweepwise.results.comparison import Comparison, comparisons
from sweepwise.results.question import Question, Rest, ask, label
from sweepwise.results.remarks import refuse_several_data_sets
from sweepwise.results.statistics.crossed import averaged, factors
from sweepwise.results.statistics.effects import Effects, effects
from sweepwise.results.statistics.estimate import CONFIDENCE, Estimate, mean_interval
from sweepwise.results.statistics.variance import Sources, components
from sweepwise.results.statistics.winner import Winner, winner
from sweepwise.results.table import Row, Table, Values

MOST_DECOMPOSED = 1000  # runs whose variance is shared out among its sources


@dataclass(frozen=True)
class Ranked:
    """A setting in the ranking.

    Attributes:
        setting: its values.
        name: as a person writes it.
        estimate: mean and interval over the replicates that have a value; None if none has.
        failed: replicates that failed or diverged.
        n: replicates that have ended.
    """

    setting: Values
    name: str
    estimate: Estimate | None
    failed: int
    n: int


@dataclass(frozen=True)
class Answer:
    """What a sweep says.

    Attributes:
        table: of its runs.
        ranking: its settings, the best first; those with failures after those without.
        questions: that were asked, by key.
        comparisons: by key; all their intervals hold together.
        confidence: with which they do.
        winner: the best setting, and what it is worth without the luck by which it was chosen; None of one.
        sources: of the variance between the runs of a setting; None unless two or more varied apart.
        effects: which key mattered; None unless two or more vary.
    """

    table: Table
    ranking: tuple[Ranked, ...]
    questions: Mapping[str, Question]
    comparisons: Mapping[str, tuple[Comparison, ...]]
    confidence: float
    winner: Winner | None
    sources: Sources | None
    effects: Effects | None

    @property
    def replicated(self) -> bool:
        """Whether any setting was run more than once, without which nothing can be claimed."""
        return any(ranked.n > 1 for ranked in self.ranking)

    @property
    def counts(self) -> Counter[str]:
        """How many runs have each status."""
        return Counter(row.status for row in self.table.rows)


def answer(
    table: Table | str | Path,
    compare: str | None = None,
    *,
    rest: Rest = "best",
    baseline: str | None = None,
    margin: float | None = None,
    confidence: float = CONFIDENCE,
    thorough: bool = True,
) -> Answer:
    """Answers which settings of a sweep are better, and how sure that is.

    All comparisons of an answer hold together: in at most 1 - confidence of sweeps any 'better' is wrong. So
    one that asks less is surer of it.

    Args:
        table: of the runs, or a folder.
        compare: the key that the question is about; None: each that varies; 'setting': whole settings.
        rest: what is done with the settings that are not compared; see `question.ask`.
        baseline: the level that all others are compared with; None: all are compared with each other.
        margin: the largest difference that does not matter, in the metric's unit; None: that of
            `verdict.default_margin`.
        confidence: of all comparisons together, in (0, 1).
        thorough: whether a sweep that is no grid is asked which key mattered, which takes a second or two.

    Raises:
        UsageError: there is no such key or level, or a value is outside its range.

    Example:
        >>> from sweepwise.results.loading import from_records
        >>> losses = {"xavier": [0.50, 0.52, 0.49], "zeros": [2.31, 2.30, 2.30]}
        >>> runs = [{"init": i, "seed": s, "loss": x} for i, xs in losses.items() for s, x in enumerate(xs)]
        >>> one = answer(from_records(runs, "loss")).comparisons["init"][0]
        >>> one.better.name, one.verdict.kind, round(one.difference.mean, 2)
        ('xavier', 'better', -1.8)
    """
    found = table if isinstance(table, Table) else loading.load(table)
    refuse_several_data_sets(found)
    if baseline is not None and compare is None:
        raise UsageError([f"baseline={baseline}: needs compare=KEY, the key that it is a level of"])
    keys = [compare] if compare else list(found.settings)
    questions = {key: ask(found, key, rest) for key in keys}
    if baseline is not None:
        known = [level.name for level in questions[keys[0]].levels]
        if baseline not in known:
            raise UsageError(
                [f"baseline={baseline}: must be a level of {compare}; there is {', '.join(known)}"]
            )
    return Answer(
        found,
        ranking(found, confidence),
        questions,
        comparisons(found, questions, baseline, margin, confidence),
        confidence,
        _winner(found, confidence),
        _sources(found),
        _effects(found, thorough),
    )


def ranking(table: Table, confidence: float = CONFIDENCE) -> tuple[Ranked, ...]:
    """The settings of a table, the best first: those with a value, by fewest failures, then by their means.

    Args:
        table: of the runs.
        confidence: of each setting's interval, in (0, 1).
    """
    return tuple(
        sorted((_ranked(table, *cell, confidence) for cell in table.cells.items()), key=_rank(table))
    )


def _winner(table: Table, confidence: float) -> Winner | None:
    """The best of the settings of which no run has failed."""
    groups = {
        setting: {row.replicate: row.value for row in rows if row.value is not None and row.ended}
        for setting, rows in table.cells.items()
        if not any(row.failed for row in rows)
    }
    valued = {setting: values for setting, values in groups.items() if values}
    if len(valued) < 2:
        return None
    found = winner(valued, table.mode, confidence)
    seen = _estimate(valued[found.name], limits(table.metric), confidence)
    half, possible = (seen.high - seen.low) / 2, limits(table.metric)
    low, high = min(found.fair, found.seen.mean) - half, max(found.fair, found.seen.mean) + half
    return replace(found, seen=seen, low=max(low, possible[0]), high=min(high, possible[1]))


def _effects(table: Table, thorough: bool) -> Effects | None:
    """Which key mattered."""
    rows = [row for row in table.rows if row.ended or row.failed]
    if len(table.settings) < 2 or not rows or (len(rows) > MOST_DECOMPOSED and not thorough):
        return None
    return effects(
        [dict(zip(table.settings, row.setting, strict=True)) for row in rows],
        [row.value if row.ended else None for row in rows],
        table.mode,
        [row.replicate for row in rows],
        forest=thorough,
    )


def _sources(table: Table) -> Sources | None:
    """Where the variance between the runs of a setting comes from; in a large sweep, of its first ones."""
    if len(table.replicates) < 2:
        return None
    rows: list[Row] = []
    for cell in table.cells.values():
        ended = [row for row in cell if row.ended]
        if len(rows) + len(ended) > MOST_DECOMPOSED:
            break
        rows += ended if len(ended) > 1 else []
    if not rows:
        return None
    factors = {key: [row.replicate[place] for row in rows] for place, key in enumerate(table.replicates)}
    found = components([row.value or 0.0 for row in rows], factors, [row.setting for row in rows])
    return found if len(found.levels) > 1 else None


def _ranked(table: Table, setting: Values, rows: Sequence[Row], confidence: float) -> Ranked:
    values = {row.replicate: row.value for row in rows if row.ended and row.value is not None}
    failed = sum(row.failed for row in rows)
    estimate = _estimate(values, limits(table.metric), confidence) if values else None
    return Ranked(
        setting, label(table.settings, setting) or "all runs", estimate, failed, len(values) + failed
    )


def _estimate(values: Mapping[Values, float], possible: tuple[float, float], confidence: float) -> Estimate:
    """The mean of a setting with its interval, inside what the metric can be."""
    plain = mean_interval(list(values.values()), confidence)
    counted = [
        mean_interval(list(averaged(values, place).values()), confidence) for place in factors([values])
    ]
    half = max(((one.high - one.low) / 2 for one in [plain, *counted]), default=math.inf)
    low, high = max(plain.mean - half, possible[0]), min(plain.mean + half, possible[1])
    return replace(plain, low=low if plain.n > 1 else -math.inf, high=high if plain.n > 1 else math.inf)


def _rank(table: Table) -> Callable[[Ranked], tuple[bool, float, float]]:
    def key(ranked: Ranked) -> tuple[bool, float, float]:
        mean = table.sign * ranked.estimate.mean if ranked.estimate else 0.0
        return ranked.estimate is None, ranked.failed / max(ranked.n, 1), mean

    return key
