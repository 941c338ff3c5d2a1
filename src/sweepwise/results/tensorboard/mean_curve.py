"""The mean of the curves of a setting's replicates, with Student's interval at each epoch."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweepwise.improvement import limits
from sweepwise.results.statistics.estimate import CONFIDENCE, half_width, moments

LEAST = 2  # replicates that a mean has
LONGEST = 1000  # epochs that are kept of a curve; TensorBoard keeps a sample of 1,000 steps
ENDS = "whiskers"  # the family of tags of the intervals; sorts after those of the runs
RUNS = f"{ENDS}/runs"


@dataclass(frozen=True)
class Curve:
    """What the replicates of a setting say of its epochs.

    Attributes:
        steps: of each epoch, that most runs have.
        values: of each epoch by tag: means, ends of their intervals, number of runs.
        tags: that are means.
        alone: epochs that one run alone has reached, which have no mean.
    """

    steps: tuple[int, ...]
    values: tuple[Mapping[str, float], ...]
    tags: tuple[str, ...]
    alone: int


def curve(runs: Sequence[Sequence[Mapping[str, Any]]]) -> Curve:
    """The mean of every metric of the epochs over the runs that have it, with Student's 95 % interval.

    An epoch that fewer than two runs have reached is left out, and so is a value that is not finite: a run
    that has ended counts up to its end.

    Args:
        runs: the epochs of each, as `run_folder.epochs` returns them.
    """
    by_epoch: dict[int, list[Mapping[str, Any]]] = {}
    for lines in runs:
        for line in lines:
            if isinstance(line.get("epoch"), int) and isinstance(line.get("step"), int):
                by_epoch.setdefault(line["epoch"], []).append(line)
    steps, found, tags = [], [], dict[str, None]()
    for epoch in _thinned(sorted(epoch for epoch, lines in by_epoch.items() if len(lines) >= LEAST)):
        values = _intervals(by_epoch[epoch])
        if values:
            tags |= dict.fromkeys(tag for tag in values if not tag.startswith(f"{ENDS}/"))
            steps.append(Counter(line["step"] for line in by_epoch[epoch]).most_common(1)[0][0])
            found.append(values)
    alone = sum(len(lines) < LEAST for lines in by_epoch.values())
    return Curve(tuple(steps), tuple(found), tuple(tags), alone)


def _thinned(epochs: Sequence[int]) -> Sequence[int]:
    """The epochs, or of too many as many as are written, evenly spread, the last one among them."""
    if len(epochs) <= LONGEST:
        return epochs
    return [epochs[round(place * (len(epochs) - 1) / (LONGEST - 1))] for place in range(LONGEST)]


def _intervals(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means of the metrics of one epoch, each with its interval, inside what the metric can be."""
    found: dict[str, float] = {}
    for tag in dict.fromkeys(tag for line in lines for tag in line if "/" in tag):
        values = [value for line in lines if (value := _finite(line.get(tag))) is not None]
        if len(values) >= LEAST:
            mean, deviation = moments(values)
            half = _quantile(len(values) - 1) * deviation / math.sqrt(len(values))
            found[tag] = mean
            least, most = limits(tag)
            low, high = min(max(mean - half, least), mean), max(min(mean + half, most), mean)
            found |= dict(zip(ends(tag), (low, high), strict=True))
    return found | {RUNS: float(len(lines))} if found else {}


def ends(tag: str) -> tuple[str, str]:
    """The tags of lower and upper end of a mean's interval."""
    return f"{ENDS}/{tag}/low", f"{ENDS}/{tag}/high"


@functools.cache
def _quantile(df: int) -> float:
    return half_width(1.0, df, 1 - CONFIDENCE)


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
