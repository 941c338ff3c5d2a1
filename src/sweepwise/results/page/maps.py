"""What lies over two settings or more: heat maps with the boundary of failing, and parallel coordinates."""

from __future__ import annotations

import itertools
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweepwise.results.answer import Answer
from sweepwise.results.critique.boundary import Boundary, is_beyond
from sweepwise.results.critique.scale import is_log, is_number
from sweepwise.results.page.plain import number
from sweepwise.results.run_folder import shown
from sweepwise.results.table import Table

MOST_MAPS = 6
MOST_LEVELS = 30  # of a key in a heat map
MOST_MESSAGES = 12  # that runs which failed left
REASON_LETTERS = 400  # of each
MOST_LINES = 1000  # of the parallel coordinates

NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?|\b(nan|inf)\b")

Cell = tuple[int, int]


def levels(answer: Answer, key: str) -> list[Hashable]:
    """The values of a key: numbers by size, before words in the order of the table."""
    place = answer.table.settings.index(key)
    there = list(dict.fromkeys(ranked.setting[place] for ranked in answer.ranking))
    return sorted(there, key=lambda value: (0, value, "") if is_number(value) else (1, 0.0, shown(value)))


def heatmaps(answer: Answer, fails: Boundary | None = None) -> list[dict[str, Any]]:
    """The metric over pairs of keys, those with the largest effects first; numbers are y.

    Args:
        answer: of the sweep.
        fails: where its runs begin to fail, as the critique found it.
    """
    keys = [key for key in answer.table.settings if 1 < len(levels(answer, key)) <= MOST_LEVELS]
    order = {key: place for place, key in enumerate(_by_effect(answer))}
    pairs = sorted(
        itertools.combinations(keys, 2),
        key=lambda pair: sorted(order.get(key, len(order)) for key in pair),
    )
    return [_heatmap(answer, *_turned(answer, *pair), fails) for pair in pairs[:MOST_MAPS]]


def _by_effect(answer: Answer) -> list[str]:
    """The keys, the most important first."""
    first = answer.effects.first if answer.effects else ()
    return list(dict.fromkeys([*first, *answer.table.settings]))


def _turned(answer: Answer, one: str, other: str) -> tuple[str, str]:
    """Two keys as x and y: of numbers and words the numbers upwards."""
    numeric = [all(map(is_number, levels(answer, key))) for key in (one, other)]
    return (other, one) if numeric == [True, False] else (one, other)


def _heatmap(answer: Answer, x_key: str, y_key: str, fails: Boundary | None) -> dict[str, Any]:
    """The best mean of each pair of values, and how many runs ended and failed there."""
    x, y = levels(answer, x_key), levels(answer, y_key)
    places = [answer.table.settings.index(key) for key in (x_key, y_key)]
    x_at, y_at = ({value: place for place, value in enumerate(values)} for values in (x, y))
    best: dict[Cell, float | None] = {}
    n: dict[Cell, int] = {}
    failed: dict[Cell, int] = {}
    for ranked in answer.ranking:  # the best first, so the first of a cell is its best
        at = (x_at[ranked.setting[places[0]]], y_at[ranked.setting[places[1]]])
        if best.get(at) is None:
            best[at] = ranked.estimate.mean if ranked.estimate else None
        n[at] = n.get(at, 0) + ranked.n
        failed[at] = failed.get(at, 0) + ranked.failed
    return {
        "x_key": x_key,
        "y_key": y_key,
        "x": list(map(shown, x)),
        "y": list(map(shown, y)),
        "cells": [[*at, number(best[at]), n[at], failed[at]] for at in sorted(best)],
        "boundary": _beyond(answer.table, fails, (x_key, y_key), x, y),
    }


def _beyond(
    table: Table, fails: Boundary | None, keys: tuple[str, str], x: Sequence[Hashable], y: Sequence[Hashable]
) -> list[list[int]] | None:
    """The cells beyond the critique's boundary; None where a map lacks a key that it is told by."""
    if not fails or not {fails.key, fails.by or fails.key} <= {*keys}:
        return None
    place = table.settings.index(fails.key)
    by = table.settings.index(fails.by) if fails.by else -1
    places = [table.settings.index(key) for key in keys]
    found = []
    for cell in itertools.product(range(len(x)), range(len(y))):
        setting: list[Hashable] = [None] * len(table.settings)
        setting[places[0]], setting[places[1]] = x[cell[0]], y[cell[1]]
        if setting[place] is None or (by >= 0 and setting[by] not in fails.failing):
            continue
        row = replace(table.rows[0], setting=tuple(setting))
        if is_beyond(row, place, fails.high, by, fails.failing):
            found.append([*cell])
    return found


def parallel(answer: Answer) -> dict[str, Any]:
    """Each setting as a line through its values, the best first; words by their place among the values."""
    keys = answer.table.settings
    axes, places = [], []
    for key in keys:
        values = levels(answer, key)
        numeric = all(map(is_number, values)) and len(values) > 1
        axes.append(
            {
                "key": key,
                "values": None if numeric else list(map(shown, values)),
                "numeric": numeric,
                "log": numeric and _is_log(values),
            }
        )
        places.append(None if numeric else {value: place for place, value in enumerate(values)})
    lines = []
    for place, ranked in enumerate(answer.ranking[:MOST_LINES]):
        if ranked.estimate:
            values = [
                number(value) if where is None else where[value]
                for value, where in zip(ranked.setting, places, strict=True)
            ]
            lines.append({"ranking": place, "values": values})
    return {"axes": axes, "lines": lines}


def _is_log(values: Sequence[Any]) -> bool:
    """Whether an axis is logarithmic, on which there is no 0."""
    return min(values) > 0 and is_log(values)


def failing(
    answer: Answer, maps: Sequence[Mapping[str, Any]], said: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Which runs failed or diverged: at which values, from where on, and what they said.

    Args:
        answer: of the sweep.
        maps: its heat maps, one of which may show the boundary.
        said: the critique's finding of where runs begin to fail; None: it has none.
    """
    table = answer.table
    drawn = next((place for place, one in enumerate(maps) if one["boundary"]), None)
    return {
        "diverged": sum(row.status == "diverged" for row in table.rows),
        "failed": sum(row.failed and row.status != "diverged" for row in table.rows),
        "by": _failed_by_value(answer),
        "boundary": {"place": drawn, "text": said["text"], "evidence": said["evidence"]} if said else None,
        "messages": _messages(answer),
    }


def _failed_by_value(answer: Answer) -> list[dict[str, Any]]:
    """The values at which runs ended badly, those at which most did first."""
    table = answer.table
    found: list[dict[str, Any]] = []
    for place, key in enumerate(table.settings):
        counts: dict[Hashable, list[int]] = {}
        for row in table.rows:
            count = counts.setdefault(row.setting[place], [0, 0])
            count[0] += row.failed
            count[1] += row.failed or row.ended
        found += [
            {"key": key, "value": shown(value), "ended_badly": bad, "n": n}
            for value, (bad, n) in counts.items()
            if bad
        ]
    found.sort(key=lambda one: -one["ended_badly"] / max(one["n"], 1))
    return found[:MOST_LEVELS]


def _messages(answer: Answer) -> list[dict[str, Any]]:
    """The reasons of runs that ended badly, the most frequent first, each as of one run, with its folder.

    Those that differ in numbers alone are one.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for row in answer.table.rows:
        if row.failed:
            reason = str(row.run.known.get("reason") or row.status)[:REASON_LETTERS]
            found.setdefault(NUMBER.sub("", reason), []).append((reason, row.folder.name))
    most = sorted(found.values(), key=lambda runs: -len(runs))[:MOST_MESSAGES]
    return [{"reason": runs[0][0], "n": len(runs), "example": runs[0][1]} for runs in most]
