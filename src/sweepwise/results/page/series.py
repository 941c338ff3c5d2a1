"""What a setting is made of: the rates that it used, how its networks start, when its runs end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweepwise.results import run_folder
from sweepwise.results.answer import Answer
from sweepwise.results.page.curves import (
    CURVE_DIGITS,
    MOST_POINTS,
    MOST_SETTINGS,
    counts,
    shown_settings,
    value_of,
)
from sweepwise.results.page.plain import numbers, thinned
from sweepwise.results.question import label
from sweepwise.results.table import Row

MOST_LAYERS = 64  # of a network


def rates(answer: Answer) -> list[dict[str, Any]]:
    """The learning rate that each setting used, by step; settings with equal ones together.

    Of each setting the longest run that counts tells it. Where a plateau moves the rate, other runs differ.
    One that ends early has the rates of another as far as it goes.
    """
    known: list[tuple[str, list[int], list[float], list[int]]] = []
    for place in shown_settings(answer):
        rows = [row for row in answer.table.cells[answer.ranking[place].setting] if counts(row)]
        for name, steps, values in _rates_of(max(rows, key=lambda row: row.epochs)):
            known.append((name, steps, values, [place]))
    merged: list[tuple[str, list[int], list[float], list[int]]] = []
    for name, steps, values, places in sorted(known, key=lambda one: -len(one[1])):
        for other in merged:
            if other[0] == name and other[1][: len(steps)] == steps and other[2][: len(values)] == values:
                other[3].extend(places)
                break
        else:
            merged.append((name, steps, values, places))
    made = []
    for name, steps, values, places in sorted(merged, key=lambda one: min(one[3])):
        kept = thinned(len(steps), MOST_POINTS)
        rates = numbers((values[at] for at in kept), CURVE_DIGITS)
        made.append(
            {
                "ranking": min(places),
                "rankings": sorted(places),
                "name": name,
                "steps": [steps[at] for at in kept],
                "lr": rates,
            }
        )
    return made


def _rates_of(row: Row) -> list[tuple[str, list[int], list[float]]]:
    """The rates that a run has logged: of each its name, steps and values."""
    return [
        (name, [step for step, _, _ in logged], [value for _, _, value in logged])
        for name, logged in run_folder.rates(row.folder).items()
    ]


def depth(answer: Answer) -> list[dict[str, Any]]:
    """How the network of each init starts: what layers pass on and get back, mean over the runs.

    What else of init and model varies stands in the name.
    """
    table = answer.table
    groups: dict[tuple[Any, ...], list[Sequence[Mapping[str, Any]]]] = {}
    for row in table.rows:
        layers = _layers(row)
        if layers:
            groups.setdefault((_init(answer, row), tuple(map(_layer_name, layers))), []).append(layers)
    made = []
    for (name, names), runs in groups.items():
        std, gradient = (
            np.array([[value_of(layer, key) for layer in layers] for layers in runs], float)
            for key in ("std", "gradient")
        )
        kept = thinned(len(names), MOST_LAYERS)
        made.append(
            {
                "name": name,
                "n": len(runs),
                "layers": [names[at] for at in kept],
                "std": numbers(_mean(std)[kept].tolist(), CURVE_DIGITS),
                "gradient": numbers(_mean(gradient)[kept].tolist(), CURVE_DIGITS),
            }
        )
    return made[:MOST_SETTINGS]


def _mean(values: NDArray) -> NDArray:
    """The mean over the runs, of those that have a value."""
    known = np.isfinite(values)
    with np.errstate(all="ignore"):
        return np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)


def _layers(row: Row) -> Sequence[Mapping[str, Any]]:
    start = row.run.known.get("start")
    layers = start.get("layers") if isinstance(start, Mapping) else None
    if not isinstance(layers, list) or not all(isinstance(layer, Mapping) for layer in layers):
        return []
    return layers


def _layer_name(layer: Mapping[str, Any]) -> str:
    return str(layer.get("name", ""))


def _init(answer: Answer, row: Row) -> str:
    """The init of a run, and what else varies that a network starts by."""
    keys = [
        key for key in answer.table.settings if key.partition(".")[0] in ("init", "model") and key != "init"
    ]
    init = run_folder.shown(row.run.settings.get("init"))
    values = dict(zip(answer.table.settings, row.setting, strict=True))
    more = label(keys, tuple(values[key] for key in keys))
    return ", ".join(filter(None, [init, more]))


def stopping(answer: Answer) -> list[dict[str, Any]]:
    """When the runs of each setting ended, where their best weights were; [] if none was stopped early."""
    table = answer.table
    if not any(row.status == "stopped early" for row in table.rows):
        return []
    made = []
    for place in shown_settings(answer):
        rows = [row for row in table.cells[answer.ranking[place].setting] if row.ended]
        if rows:
            trainer = rows[0].run.config.get("trainer")
            most = trainer.get("max_epochs") if isinstance(trainer, Mapping) else None
            made.append(
                {
                    "ranking": place,
                    "stopped": [row.epochs for row in rows],
                    "early": [row.status == "stopped early" for row in rows],
                    "best": [row.best_epoch for row in rows],
                    "max_epochs": most if isinstance(most, int) else None,
                }
            )
    return made
