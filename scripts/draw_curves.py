"""Draws a metric of the runs of a folder by epoch, grouped by what they differ in, and prints a table.

    python scripts/draw_curves.py runs=outputs/init
    python scripts/draw_curves.py runs=outputs/schedule metric=val/loss by=scheduler

A group holds the runs that differ in their seed only: each is drawn thin to a dot where it ended, their
mean thick. by=KEY,KEY groups by these overrides instead. The table gives mean and standard deviation
over the runs of a group: of the best epoch's value of the metric that chose the best weights, and of
the last epoch's value of metric= (val/accuracy, or val/r2 for regression; of the training part where
there is no validation part). figure=PATH says where the picture goes.
"""

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.store import history, record, request
from sweepwise.store.shape import Damaged
from sweepwise.system.console import wrapped
from sweepwise.tools import figure, scripting

ELSE = "-"  # of a run that did not override the key
NOT_COMPARED = ("seed", "output_dir", "fresh", "progress", "mean_runs", "monitor", "name")


class Run(NamedTuple):
    """A run that has ended: its overrides, its record and its metrics after each epoch."""

    overrides: Mapping[str, str]
    known: Mapping[str, Any]
    lines: list[dict[str, Any]]


def read(home: Path) -> list[Run]:
    """The runs below a folder that have ended.

    Raises:
        UsageError: there is none.
    """
    runs = []
    for path in sorted(home.rglob("[!.]*/record.json")):
        try:
            known = record.read(path.parent)
            if known.get("status") in ("finished", "stopped early"):
                overrides = dict(zip(request.keys(known["overrides"]), known["overrides"], strict=True))
                values = {key: override.partition("=")[2] for key, override in overrides.items()}
                runs.append(Run(values, known, history.history(path.parent)))
        except Damaged as error:
            print(wrapped("left out", str(error)))
    if not runs:
        raise UsageError([f"runs={home}: must hold a run that has ended, but holds none"])
    return runs


def grouped(runs: Sequence[Run], by: Sequence[str]) -> dict[str, list[Run]]:
    """Groups runs by their overrides of these keys; without keys, by all that differ but the seed."""
    every = dict.fromkeys(key for run in runs for key in run.overrides)
    if unknown := [key for key in by if key not in every]:
        rule = f"no run overrides this key; there is {', '.join(every) or 'none'}"
        raise UsageError([f"by={unknown[0]}: {rule}"])
    keys = by or [
        key
        for key in every
        if key.split(".")[0] not in NOT_COMPARED and len({run.overrides.get(key) for run in runs}) > 1
    ]
    groups: dict[str, list[Run]] = {}
    for run in runs:
        values = [run.overrides.get(key, ELSE) for key in keys]
        short = [key.removesuffix(".coefficient").rpartition(".")[2] for key in keys]
        alone = len(keys) == 1 and "." not in keys[0]  # an option speaks for itself, a number does not
        name = values[0] if alone else ", ".join(map("=".join, zip(short, values, strict=True)))
        groups.setdefault(name or "all", []).append(run)
    return {name: groups[name] for name in sorted(groups, key=in_order)}


def in_order(name: str) -> list[tuple[bool, float, str]]:
    """Sorts numbers by their size and words by their letters."""
    parts = re.split(r"([0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?)", name)
    return [(place % 2 == 0, float(part) if place % 2 else 0.0, part) for place, part in enumerate(parts)]


def spread(values: Sequence[float | None]) -> str:
    """Mean and standard deviation, for a table; '-' if a run has no value."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    deviation = f" ± {statistics.stdev(known):.4f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.4f}{deviation}"


def table(groups: Mapping[str, Sequence[Run]], metric: str) -> list[str]:
    """The lines of the table."""
    wide = max(map(len, groups)) + 2
    every = [run.known["best"]["metric"] for runs in groups.values() for run in runs]
    watched = f"best {next(filter(None, every), '')}"
    lines = [f"{'':<{wide}}runs  {watched:<20}{'last ' + metric:<20}best epoch  epochs"]
    for name, runs in groups.items():
        best = spread([run.known["best"]["value"] for run in runs])
        last = spread([run.lines[-1][metric] for run in runs])
        at = statistics.mean(run.known["best"]["epoch"] for run in runs)
        epochs = statistics.mean(run.known["stopped"]["epoch"] + 1 for run in runs)
        lines.append(f"{name:<{wide}}{len(runs):>4}  {best:<20}{last:<20}{at:>10.1f}  {epochs:>6.1f}")
    return lines


def main(arguments: list[str]) -> None:
    """Draws what the arguments ask for."""
    own, others = scripting.settings(
        arguments, figure="outputs/figures/draw_curves.png", runs="", metric="", by=""
    )
    if others:
        raise UsageError([f"{other}: must be runs=, metric=, by= or figure=" for other in others])
    if not own["runs"]:
        raise UsageError(["runs=FOLDER: must be given, such as runs=outputs/init"])
    runs = read(Path(own["runs"]))
    tags = [tag for tag in runs[0].lines[-1] if "/" in tag]
    usual = scripting.shown_metrics()
    metric = own["metric"] or next((tag for tag in usual if tag in tags), usual[0])
    if any(run.lines[-1].get(metric) is None for run in runs):
        raise UsageError([f"metric={metric}: was not measured in every run; there is {', '.join(tags)}"])
    groups = grouped(runs, scripting.words("by", own["by"]) if own["by"] else [])
    print("\n".join(table(groups, metric)))
    many = len(groups) > 5
    picture = figure.new(width=9.2 if many else 7.2, height=4.2)
    axes = picture.add_subplot()
    scripting.draw_curves(
        axes, {name: [run.lines for run in group] for name, group in groups.items()}, metric
    )
    axes.set_xlabel(figure.label("epoch (from 0)", "轮次（从 0 起）"))
    axes.set_ylabel(metric)
    if many:
        picture.legend(loc="outside right center")
    else:
        axes.legend()
    figure.finish(picture, Path(own["figure"]))


if __name__ == "__main__":
    cli.script(main, __doc__)
