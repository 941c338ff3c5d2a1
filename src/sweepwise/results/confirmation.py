"""A confirmation: finalists of a sweep and the default, on seeds that nobody has chosen by."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweepwise.errors import UsageError
from sweepwise.improvement import sign
from sweepwise.results.answer import Answer
from sweepwise.results.further_runs import PLAN, SEED, given
from sweepwise.results.sentences import apart, number
from sweepwise.results.statistics.difference import Difference, difference
from sweepwise.results.statistics.estimate import Estimate, mean_interval
from sweepwise.results.statistics.multiple import against_best
from sweepwise.results.table import Row, Table, Values
from sweepwise.store.folders import SWEEP
from sweepwise.store.record import TEST, from_python
from sweepwise.system.atomic import write_atomic

SUFFIX = "-confirmed"  # of the experiment that the new runs belong to
DEFAULT = "the default"


@dataclass(frozen=True)
class Plan:
    """What is confirmed.

    Attributes:
        finalists: name -> the overrides of its runs, without the seed; the best of the sweep first.
        seeds: new ones.
        metric: of the sweep.
    """

    finalists: Mapping[str, Sequence[str]]
    seeds: Sequence[int]
    metric: str

    def overrides(self, name: str, seed: int) -> list[str]:
        """The overrides of one run."""
        return [*self.finalists[name], f"{SEED}={seed}"]


@dataclass(frozen=True)
class Finalist:
    """A finalist on the new seeds.

    Attributes:
        name: its settings.
        estimate: of the sweep's metric; None if no run has a value.
        values: of it, by seed.
        failed: runs that failed or diverged.
        test: metrics of the test part by tag, each by seed; only of what was chosen and the default.
    """

    name: str
    estimate: Estimate | None
    values: Mapping[int, float]
    failed: int
    test: Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class Confirmation:
    """What the new seeds say.

    Attributes:
        chosen: the finalist with the best mean of the sweep's metric on the new seeds.
        finalists: all, the best first.
        against_default: chosen minus the default, of the sweep's metric; None if that is chosen or valueless.
        test_against_default: the same of each metric of the test part.
        sign: 1 where lower values of the sweep's metric are better, else -1.
    """

    chosen: Finalist
    finalists: tuple[Finalist, ...]
    against_default: Difference | None
    test_against_default: Mapping[str, Difference]
    sign: int


def plan(answer: Answer, seeds: int, most: int) -> Plan:
    """The finalists: the settings that the sweep cannot tell from its best, the best first; and the default.

    Args:
        answer: of the sweep.
        seeds: how many new ones.
        most: finalists, beside the default.

    Raises:
        UsageError: no setting has a value, or its runs were not trained by a command.
    """
    table = answer.table
    ranked = [one for one in answer.ranking if one.estimate and not one.failed]
    if not ranked:
        raise UsageError(
            ["finalists: no setting has ended without a failure, so there is nothing to confirm"]
        )
    if by_hand := next((row.folder for row in table.rows if from_python(row.run.known)), None):
        raise UsageError(
            [f"{by_hand}: was trained from Python, so no command confirms it; fit the best on new seeds"]
        )
    values = {
        one.setting: {
            row.replicate: row.value
            for row in table.cells[one.setting]
            if row.ended and row.value is not None
        }
        for one in ranked
    }
    close = {ranked[0].setting}
    if len(ranked) > 1:
        found = against_best(values, table.mode)
        apart = {name for name, pair in found.differences.items() if pair.adjusted <= 1 - answer.confidence}
        close = {one.setting for one in ranked} - apart
    names = [one for one in ranked if one.setting in close][:most]
    finalists = {one.name: _overrides(table, one.setting) for one in names}
    best = given(table.cells[ranked[0].setting][0].run, table.replicates)
    default = [text for key, text in best.items() if not _belongs(key, table)]
    if default not in finalists.values():
        finalists[DEFAULT] = default
    return Plan(finalists, _unused(table, seeds), table.metric)


def _belongs(key: str, table: Table) -> bool:
    """Whether an override sets one of the settings that the sweep compared."""
    compared = {*table.settings, *(other for others in table.tied.values() for other in others)}
    return key in compared or any(key.startswith(f"{setting}.") for setting in compared)


def _overrides(table: Table, setting: Values) -> list[str]:
    return list(given(table.cells[setting][0].run, table.replicates).values())


def _unused(table: Table, seeds: int) -> list[int]:
    """The next seeds after all that a run of the sweep has."""
    used = [seed for row in table.rows if isinstance(seed := row.run.settings.get(SEED), int)]
    first = max(used, default=-1) + 1
    return list(range(first, first + seeds))


def stored(home: Path) -> Plan | None:
    """The plan of a sweep that was confirmed before; None if there is none.

    Raises:
        UsageError: it is damaged.
    """
    path = home / SWEEP / PLAN
    try:
        known = json.loads(path.read_bytes())
        return Plan(dict(known["finalists"]), list(known["seeds"]), str(known["metric"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            [f"{path}: is damaged ({error}); remove it to confirm anew, with other seeds"]
        ) from error


def store(home: Path, what: Plan) -> None:
    """Keeps a plan, so that the same command goes on with it and never takes other seeds."""
    fields: dict[str, Any] = {"finalists": what.finalists, "seeds": what.seeds, "metric": what.metric}
    (home / SWEEP).mkdir(exist_ok=True)
    write_atomic(home / SWEEP / PLAN, json.dumps(fields, indent=2).encode() + b"\n")


def confirm(what: Plan, rows: Mapping[tuple[str, int], Row], sign: int) -> Confirmation:
    """What the new runs say: the choice by the sweep's metric, then the test part of what was chosen.

    Args:
        what: was planned.
        rows: the runs, by finalist and seed.
        sign: of the sweep's metric.

    Raises:
        UsageError: no run has a value.
    """
    found = {
        name: [(seed, rows[name, seed]) for seed in what.seeds if (name, seed) in rows]
        for name in what.finalists
    }
    values = {
        name: {seed: row.value for seed, row in runs if row.ended and row.value is not None}
        for name, runs in found.items()
    }
    failed = {name: sum(row.failed for _, row in runs) for name, runs in found.items()}
    order = sorted(
        (name for name in found if values[name]),
        key=lambda name: (failed[name], sign * sum(values[name].values()) / len(values[name])),
    )
    if not order:
        raise UsageError(["finalists: none has ended on the new seeds"])
    looked_at = {order[0], DEFAULT}
    finalists = {
        name: Finalist(
            name,
            mean_interval(list(values[name].values())) if values[name] else None,
            values[name],
            failed[name],
            _test(found[name]) if name in looked_at else {},
        )
        for name in [*order, *(name for name in found if name not in order)]
    }
    chosen, default = finalists[order[0]], finalists.get(DEFAULT)
    compared = default if default is not None and default is not chosen and default.values else None
    return Confirmation(
        chosen,
        tuple(finalists.values()),
        difference(chosen.values, compared.values) if compared else None,
        {
            tag: difference(chosen.test[tag], compared.test[tag])
            for tag in chosen.test
            if compared and compared.test.get(tag)
        },
        sign,
    )


def _test(runs: Sequence[tuple[int, Row]]) -> dict[str, dict[int, float]]:
    """The metrics of the test part, by tag and seed."""
    tags = dict.fromkeys(tag for _, row in runs for tag in row.last if tag.startswith(TEST))
    return {
        tag: {seed: value for seed, row in runs if row.ended and (value := row.last.get(tag)) is not None}
        for tag in tags
    }


def missing(what: Plan, rows: Mapping[tuple[str, int], Row]) -> Iterator[tuple[str, int]]:
    """The runs of a plan that have not ended."""
    for name in what.finalists:
        for seed in what.seeds:
            row = rows.get((name, seed))
            if row is None or not (row.ended or row.failed):
                yield name, seed


def confirmed(found: Confirmation, what: Plan) -> list[tuple[str, str]]:
    """A confirmation in words: the choice on the new seeds, then the test part of what was chosen."""
    seeds = len(what.seeds)
    passages = [
        (
            "confirmed",
            f"{found.chosen.name}: chosen by {what.metric} on {seeds} seeds that the sweep had not used",
        )
    ]
    for place, finalist in enumerate(found.finalists, 1):
        failed = f", {finalist.failed} of {seeds} failed" if finalist.failed else ""
        value = number(finalist.estimate) if finalist.estimate else "no value"
        passages.append((f"{place}.", f"{finalist.name}: {what.metric} {value}{failed}"))
    if found.against_default:
        passages.append((what.metric, _against(found.against_default, found.sign)))
    for tag, values in found.chosen.test.items():
        mine = number(mean_interval(list(values.values()))) if values else "no value"
        against = found.test_against_default.get(tag)
        than = f"; {_against(against, sign(tag, 'auto'))}" if against else ""
        passages.append((tag, f"{mine}{than}"))
    return passages


def _against(found: Difference, direction: int) -> str:
    """The chosen setting against the default, in words."""
    ahead = direction * found.mean < 0
    surely = found.low > 0 or found.high < 0
    word = ("better" if ahead else "worse") if surely else "not surely different"
    return (
        f"{word} than the default by {apart(found)}" if surely else f"{word} from the default: {apart(found)}"
    )
