"""What is compared with what: levels of a key, at their best, at equal settings or averaged over the rest."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from scipy.special import stdtrit

from sweepwise.errors import UsageError, did_you_mean
from sweepwise.results.run_folder import shown
from sweepwise.results.statistics.difference import difference
from sweepwise.results.table import Row, Table, Values

Rest = Literal["best", "equal", "averaged"]
SURELY = 0.998  # quantile of t that the distance of a setting from the best must exceed
SETTING = "setting"  # the question that compares whole settings


@dataclass(frozen=True)
class Level:
    """One side of a comparison.

    Attributes:
        name: such as 'cosine'.
        values: of the metric, by replicate.
        failed: replicates whose run failed or diverged.
        at: the settings of the rest at which it is, as 'key=value, ...'; '' if there is none, or all of it.
        candidates: settings of the rest that its best one was chosen from, but for those that are surely
            worse; 1: none was chosen. `selection.bests_p` says what that costs.
        where: the settings of its runs, with all keys, at which it is.
    """

    name: str
    values: Mapping[Values, float]
    failed: frozenset[Values]
    at: str
    candidates: int
    where: tuple[Values, ...]

    @property
    def n(self) -> int:
        """Replicates that have ended, failed ones included."""
        return len(self.values) + len(self.failed)


@dataclass(frozen=True)
class Question:
    """Which level of a key is better.

    Attributes:
        key: that is compared, or 'setting'.
        levels: of the key.
        rest: what was done with the other settings.
        nuisance: their keys.
    """

    key: str
    levels: tuple[Level, ...]
    rest: Rest
    nuisance: tuple[str, ...]


def ask(table: Table, key: str, rest: Rest = "best") -> Question:
    """Puts a question to the table.

    Args:
        table: of the runs.
        key: one of its settings, or 'setting' for all of them together.
        rest: what is done with the settings that are not compared. 'best': each level is taken at its best
            ones. 'equal': the mean over those that all levels were run at. 'averaged': the mean over all.

    Raises:
        UsageError: there is no such key, or there are no settings that all levels were run at.
    """
    if rest not in get_args(Rest):
        raise UsageError([f"rest={rest}: must be one of {', '.join(get_args(Rest))}"])
    if key == SETTING:
        levels = tuple(_whole(table, setting, rows) for setting, rows in table.cells.items())
        return Question(key, levels, rest, ())
    if key not in table.settings:
        raise UsageError(
            [f"compare={key}: must be a setting that varies; {did_you_mean(key, [*table.settings, SETTING])}"]
        )
    place = table.settings.index(key)
    nuisance = tuple(other for other in table.settings if other != key)
    cells: dict[Hashable, dict[Values, list[Row]]] = {}
    for setting, rows in _that_have(table, key).items():
        cells.setdefault(setting[place], {})[setting[:place] + setting[place + 1 :]] = rows
    if rest == "equal":
        shared = set.intersection(*(set(found) for found in cells.values()))
        if not shared:
            raise UsageError(
                [f"rest=equal: no values of {', '.join(nuisance)} were run with every {key}; use rest=best"]
            )
        cells = {
            level: {at: rows for at, rows in found.items() if at in shared} for level, found in cells.items()
        }
    make = _at_best if rest == "best" else _averaged
    sides = []
    for level, found in cells.items():
        part = make({at: _results(rows) for at, rows in found.items()}, table.sign)
        where = tuple((*at[:place], level, *at[place:]) for at in part.at)
        at = label(nuisance, part.at[0]) if len(part.at) == 1 else ""
        sides.append(Level(shown(level), part.values, part.failed, at, part.candidates, where))
    return Question(key, tuple(sides), rest, nuisance)


def _that_have(table: Table, key: str) -> dict[Values, list[Row]]:
    """The settings whose options have a key, to compare its values; all settings if it has only one value."""
    place = table.settings.index(key)
    there = {at: rows for at, rows in table.cells.items() if any(key in row.run.settings for row in rows)}
    return there if len({setting[place] for setting in there}) > 1 else table.cells


Results = Mapping[Values, float | None]  # by replicate; None: failed


def _results(rows: Sequence[Row]) -> Results:
    """The results of one setting that have ended."""
    return {row.replicate: row.value if row.ended else None for row in rows if row.ended or row.failed}


@dataclass(frozen=True)
class _Part:
    """The results of a level: values and failures by replicate, and the settings that they were taken at."""

    values: dict[Values, float]
    failed: frozenset[Values]
    at: tuple[Values, ...]
    candidates: int


def _at_best(found: Mapping[Values, Results], sign: int) -> _Part:
    """The level at its best setting: fewest failures first, then the best mean.

    A setting that was repeated less than half as often as another is not chosen: it may have had luck.
    """
    enough = max(map(len, found.values())) / 2
    candidates = {at: results for at, results in found.items() if len(results) >= enough}

    def cost(at: Values) -> tuple[float, float]:
        known = _values(candidates[at])
        mean = sum(known.values()) / len(known) if known else math.inf
        return 1 - len(known) / max(len(candidates[at]), 1), sign * mean

    best = min(candidates, key=cost)
    rivals = [at for at in candidates if at != best and not _surely_worse(candidates[best], candidates[at])]
    return _Part(_values(found[best]), _failed(found[best]), (best,), 1 + len(rivals))


def _surely_worse(best: Results, other: Results) -> bool:
    """Whether a setting is so far behind the best one that luck could not have made it the best.

    Then it does not count among those that were chosen from, or all of a wide grid would be paid for. At
    `SURELY` that costs nothing: whether the other settings of both levels are equal to their best or worse by
    any distance, claims are false in at most 5 % of sweeps (docs/statistics.md).
    """
    first, second = _values(best), _values(other)
    if not second:
        return True
    if not first:
        return False
    pair = difference(first, second)
    return pair.df > 0 and pair.t > stdtrit(pair.df, SURELY)


def _averaged(found: Mapping[Values, Results], sign: int) -> _Part:
    """The mean over the level's settings, by replicate; it has failed where one of them has."""
    replicates = set.intersection(*(set(results) for results in found.values()))
    values: dict[Values, float] = {}
    failed = set()
    for replicate in sorted(replicates, key=repr):
        here = [results[replicate] for results in found.values()]
        known = [value for value in here if value is not None]
        if len(known) < len(here):
            failed.add(replicate)
        else:
            values[replicate] = sum(known) / len(known)
    return _Part(values, frozenset(failed), tuple(found), 1)


def _whole(table: Table, setting: Values, rows: Sequence[Row]) -> Level:
    results = _results(rows)
    name = label(table.settings, setting) or "all runs"
    return Level(name, _values(results), _failed(results), "", 1, (setting,))


def _values(results: Results) -> dict[Values, float]:
    return {replicate: value for replicate, value in results.items() if value is not None}


def _failed(results: Results) -> frozenset[Values]:
    return frozenset(replicate for replicate, value in results.items() if value is None)


def label(keys: Sequence[str], values: Values) -> str:
    """Settings as a person writes them: 'init=xavier, optimizer.lr=0.01'; absent keys are left out."""
    return ", ".join(
        f"{key}={shown(value)}" for key, value in zip(keys, values, strict=True) if value is not None
    )
