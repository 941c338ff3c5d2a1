"""Comparisons of the levels of one key or of several, which hold together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from sweepwise.results.question import Level, Question
from sweepwise.results.run_folder import SPLIT
from sweepwise.results.statistics.difference import Difference, reversed_difference
from sweepwise.results.statistics.failures import Group, with_failures
from sweepwise.results.statistics.multiple import against_best, family
from sweepwise.results.statistics.verdict import Verdict, judge
from sweepwise.results.table import Table

MOST_PAIRED = 8  # levels of which all pairs are compared; of more, the best with each other one


@dataclass(frozen=True)
class Comparison:
    """Two levels of a key, the one that looks better first.

    Attributes:
        key: that is compared.
        better: the level with fewer failures, or else the one that is ahead in what was compared: the shared
            replicates, where they are paired.
        other: the other one.
        difference: `better` minus `other`; None if one of them has no value.
        verdict: on it; None where there are too few replicates to say anything, or failures that forbid it.
        ahead: whether `better` has the better mean, too; else the other one failed more often.
        identical: all shared replicates have the same value to the bit.
    """

    key: str
    better: Level
    other: Level
    difference: Difference | None
    verdict: Verdict | None
    ahead: bool
    identical: bool


def comparisons(
    table: Table,
    questions: Mapping[str, Question],
    baseline: str | None,
    margin: float | None,
    confidence: float,
) -> dict[str, tuple[Comparison, ...]]:
    """The comparisons of all questions; together they err in at most 1 - confidence of sweeps.

    Questions with few levels share their part by Holm over all their pairs. One with many has its own.
    """
    error = 1 - confidence
    many = [
        key
        for key, question in questions.items()
        if len(_valued(question.levels)) > MOST_PAIRED and not baseline
    ]
    few = {key: question for key, question in questions.items() if key not in many}
    groups = {
        (key, level.name): level.values for key, question in few.items() for level in _valued(question.levels)
    }
    pairs = [
        ((key, first.name), (key, second.name))
        for key, question in few.items()
        for first, second in _pairs(question, baseline)
    ]
    share = error / len(questions) if questions else error
    levels = {(key, level.name): level for key, question in questions.items() for level in question.levels}
    choices = [(levels[first].candidates, levels[second].candidates) for first, second in pairs]
    together = family(groups, pairs, 1 - share * len(few), choices)
    differences: dict[tuple[str, str, str], Difference] = {
        (key, first, second): found for ((key, first), (_, second)), found in together.items()
    }
    for key in many:
        valued = {level.name: level.values for level in _valued(questions[key].levels)}
        against = against_best(valued, table.mode, 1 - share)
        differences |= {
            (key, str(against.best), str(name)): found for name, found in against.differences.items()
        }
    made: dict[str, list[Comparison]] = {key: [] for key in questions}
    for (key, first, second), found in differences.items():
        made[key].append(_comparison(table, key, levels[key, first], levels[key, second], found, margin))
    for key, question in questions.items():
        valueless = [level for level in question.levels if not level.values and level.failed]
        best = min(_valued(question.levels), key=lambda level: _cost(table, level), default=None)
        made[key] += [Comparison(key, best, level, None, None, True, False) for level in valueless if best]
    return {
        key: tuple(sorted(found, key=lambda one: (_cost(table, one.better), _cost(table, one.other))))
        for key, found in made.items()
    }


def _apart_in_split(table: Table, first: Level, second: Level) -> bool:
    """Whether two levels share no split of the data, so that their difference may be that of the splits."""
    if SPLIT not in table.replicates:
        return False
    place = table.replicates.index(SPLIT)
    splits = [{replicate[place] for replicate in level.values} for level in (first, second)]
    return not splits[0] & splits[1]


def _valued(levels: Iterable[Level]) -> list[Level]:
    """The levels of which at least one run has a value."""
    return [level for level in levels if level.values]


def _pairs(question: Question, baseline: str | None) -> list[tuple[Level, Level]]:
    levels = _valued(question.levels)
    if baseline is None:
        return list(combinations(levels, 2))
    control = [level for level in levels if level.name == baseline]
    return [(level, control[0]) for level in levels if control and level.name != baseline]


def _cost(table: Table, level: Level) -> tuple[float, float]:
    """Ranks a level: fewer failures first, then the better mean."""
    mean = sum(level.values.values()) / len(level.values) if level.values else float("inf")
    return _failures(level), table.sign * mean


def _failures(level: Level) -> float:
    """The share of a level's replicates that failed."""
    return len(level.failed) / max(level.n, 1)


def _comparison(
    table: Table, key: str, first: Level, second: Level, found: Difference, margin: float | None
) -> Comparison:
    """A pair of levels, the one that looks better first, with the verdict on it."""
    ahead = table.sign * found.mean  # not of all replicates, where only some are shared
    if (_failures(second), -ahead) < (_failures(first), ahead):
        first, second, found = second, first, reversed_difference(found)
    shared = first.values.keys() & second.values.keys()
    identical = len(shared) > 1 and all(first.values[at] == second.values[at] for at in shared)
    verdict = judge(found, margin) if found.df > 0 and not _apart_in_split(table, first, second) else None
    if verdict:
        one, other = (Group(level.values, len(level.failed)) for level in (first, second))
        verdict = with_failures(verdict, one, other, table.mode)
    return Comparison(key, first, second, found, verdict, table.sign * found.mean <= 0, identical)
