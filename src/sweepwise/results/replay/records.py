"""A replay as rows of a table: one a rule, a rule and setting, or a rule and run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from sweepwise.results.replay.early_stopping import Replay
from sweepwise.results.replay.over_settings import Mean
from sweepwise.results.replay.replayed import Replayed
from sweepwise.results.replay.stopping import UNKNOWN
from sweepwise.results.statistics.difference import Difference

COUNTED = ("stopped", "censored", "unmeasured", "valueless", "rescued")


def of_rules(found: Replay) -> list[dict[str, Any]]:
    """A dictionary a rule over all settings, then one a rule and setting; None: not known."""
    keys = found.table.settings
    whole = [
        {
            "over": "all settings",
            **dict.fromkeys(keys),
            **_rule(one),
            **_numbers(one.saved, one.lost),
            "losing": one.losing,
            "largest loss": number(one.worst),
            **_harmed(found, one),
            **{name: getattr(one, name) for name in COUNTED},
        }
        for one in found.rules
    ]
    if len(found.settings) < 2:
        return whole
    return whole + [
        {
            "over": "one setting",
            **dict(zip(keys, setting, strict=True)),
            **_rule(one),
            **_numbers(one.saved_by_setting.of(place), one.lost_by_setting.of(place)),
        }
        for one in found.rules
        for place, setting in enumerate(found.settings)
    ]


def of_runs(found: Replay) -> list[dict[str, Any]]:
    """A dictionary a rule and run that has ended: where it would have stopped, what it would be worth."""
    return [record for one in found.rules for record in _runs(found, one)]


def number(value: float) -> float | None:
    """A number as it is written down; None: not known, or without bound."""
    return float(value) if math.isfinite(value) else None


def _runs(found: Replay, one: Replayed) -> Iterator[dict[str, Any]]:
    outcome, table = one.outcome, found.table
    for place, curve in enumerate(found.curves.ended):
        row = curve.row
        yield {
            **dict(zip(table.settings, row.setting, strict=True)),
            **dict(zip(table.replicates, row.replicate, strict=True)),
            **_rule(one),
            "stopped": _epoch(outcome.stopped[place]),
            "best epoch": _epoch(outcome.kept[place]),
            "epochs": int(outcome.end[place]) + 1 if outcome.known[place] else None,
            "epochs trained": row.epochs,
            f"replayed {table.metric}": number(one.values[place]),
            table.metric: row.value,
            "censored": bool(outcome.censored[place]),
            "folder": str(row.folder),
        }


def _harmed(found: Replay, one: Replayed) -> dict[str, Any]:
    """How many runs lose more than the margin, and the largest share of all seeds that may."""
    who = found.harmed(one) if math.isfinite(found.margin.value) else None
    return {
        "losing the margin": who.runs if who else None,
        "seeds losing it at most": who.bound if who else None,
    }


def _rule(one: Replayed) -> dict[str, Any]:
    """A rule; 'watched' is its metric, as the table's own stands there too."""
    return {"watched": one.rule.metric, "patience": one.rule.patience, "min_delta": one.rule.min_delta}


def _numbers(saved: Mean | None, lost: Mean | Difference | None) -> dict[str, Any]:
    found: Mapping[str, Mean | Difference | None] = {"saved": saved, "lost": lost}
    return {
        f"{name}{'' if end == 'mean' else ' ' + end}": None if mean is None else number(getattr(mean, end))
        for name, mean in found.items()
        for end in ("mean", "low", "high")
    } | {"runs": saved.n if saved else 0}


def _epoch(found: int) -> int | None:
    return None if found == UNKNOWN else int(found)
