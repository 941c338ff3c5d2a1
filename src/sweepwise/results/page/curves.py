"""Metrics by epoch: a band over the seeds of each setting."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sweepwise.improvement import limits
from sweepwise.results import run_folder
from sweepwise.results.answer import Answer
from sweepwise.results.languages import Both
from sweepwise.results.page.plain import numbers, thinned
from sweepwise.results.replay.logged import Reader
from sweepwise.results.statistics.band import band
from sweepwise.results.table import Row

MOST_SETTINGS = 60  # whose curves are drawn
MOST_POINTS = 200  # of a curve
ALL_POINTS = 14000  # of all curves together
LEAST_POINTS = 25  # of a curve, whatever there are
MOST_TAGS = 6
CURVE_DIGITS = 5
FIRST_TAGS = ("val/loss", "train/loss", "val/accuracy", "train/accuracy", "val/r2", "train/r2")


def shown_settings(answer: Answer) -> list[int]:
    """The places in the ranking of the settings whose curves are drawn: the best ones, of those with runs."""
    table = answer.table
    there = [
        place
        for place, ranked in enumerate(answer.ranking)
        if any(counts(row) for row in table.cells[ranked.setting])
    ]
    return there[:MOST_SETTINGS]


def curves(answer: Answer, reader: Reader = run_folder.epochs) -> tuple[list[dict[str, Any]], Both | None]:
    """The mean of each metric over the seeds of a setting at each epoch, with the t interval of that epoch.

    Runs that failed or diverged are left out; one that has ended early counts up to its last epoch, so the
    number of runs stands beside each point.

    Args:
        answer: of the sweep.
        reader: gives the lines of a run's epochs from its folder.

    Returns:
        One entry a metric, and what was left out.
    """
    table, chosen = answer.table, shown_settings(answer)
    read: dict[int, list[dict[int, Mapping[str, Any]]]] = {}
    for place in chosen:
        rows = [row for row in table.cells[answer.ranking[place].setting] if counts(row)]
        read[place] = [_by_epoch(reader(row.folder)) for row in rows]
    tags = _tags(table.metric, read)
    drawn = sum(any(runs) for runs in read.values())
    most = max(LEAST_POINTS, min(MOST_POINTS, ALL_POINTS // max(drawn * len(tags), 1)))
    made = []
    for tag in tags:
        series = [_band(place, runs, tag, answer.confidence, most) for place, runs in read.items()]
        made.append({"tag": tag, "series": [one for one in series if one["epochs"]]})
    longest = max((len(run) for runs in read.values() for run in runs), default=0)
    return [one for one in made if one["series"]], _left_out(answer, len(chosen), longest, most)


def counts(row: Row) -> bool:
    """Whether a run's curve is drawn: it has ended with a value, or still trains."""
    return not row.failed and row.run.config != {}


def _by_epoch(lines: Iterable[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """The metrics of a run by epoch; of an epoch that was trained twice the later ones."""
    return {
        line["epoch"]: line
        for line in lines
        if isinstance(line.get("epoch"), int) and not isinstance(line["epoch"], bool)
    }


def _tags(metric: str, read: Mapping[int, list[dict[int, Mapping[str, Any]]]]) -> list[str]:
    """The metrics that are drawn, what was compared first."""
    there = dict.fromkeys(
        tag
        for runs in read.values()
        for run in runs
        for line in list(run.values())[-1:]
        for tag in line
        if tag.startswith(("train/", "val/"))
    )
    wanted = [metric, *FIRST_TAGS, *there]
    return [tag for tag in dict.fromkeys(wanted) if tag in there][:MOST_TAGS]


def _band(
    place: int, runs: Sequence[Mapping[int, Mapping[str, Any]]], tag: str, confidence: float, most: int
) -> dict[str, Any]:
    """The band of one metric of one setting."""
    epochs = sorted({epoch for run in runs for epoch in run})
    values = np.array([[value_of(run.get(epoch), tag) for epoch in epochs] for run in runs], float)
    known = np.isfinite(values).any(axis=0) if epochs and len(runs) else np.zeros(len(epochs), bool)
    epochs = [epoch for epoch, there in zip(epochs, known, strict=True) if there]
    values = values[:, known] if epochs else np.zeros((0, 0))
    kept = thinned(len(epochs), most)
    mean, low, high, n = band(values[:, kept], confidence, limits(tag)) if epochs else (np.zeros(0),) * 4
    return {
        "ranking": place,
        "epochs": [epochs[at] for at in kept],
        "mean": numbers(mean.tolist(), CURVE_DIGITS),
        "low": numbers(low.tolist(), CURVE_DIGITS),
        "high": numbers(high.tolist(), CURVE_DIGITS),
        "n": [int(count) for count in n],
    }


def value_of(line: Mapping[str, Any] | None, tag: str) -> float:
    """A number of a line of metrics; NaN for what is none."""
    value = (line or {}).get(tag)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def _left_out(answer: Answer, drawn: int, longest: int, most: int) -> Both | None:
    """What the curves do not show."""
    parts: list[Both] = []
    settings = len(answer.ranking)
    if drawn < settings and drawn:
        parts.append(
            Both(f"the best {drawn} of {settings} settings", f"只画出 {settings} 个设置中最好的 {drawn} 个")
        )
    if longest > most:
        parts.append(Both(f"{most} of up to {longest} epochs", f"最多 {longest} 轮中取 {most} 轮"))
    failed = sum(row.failed for row in answer.table.rows)
    if failed:
        parts.append(
            Both(f"without the {failed} runs that failed or diverged", f"不含失败或发散的 {failed} 次运行")
        )
    if not parts:
        return None
    return Both("; ".join(parts), "；".join(part.zh for part in parts))
