"""One rule of early stopping over all runs of a sweep: what it saves and what it loses, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sweepwise.results.replay.logged import Curve
from sweepwise.results.replay.over_settings import Layout, Mean, Means, over_settings
from sweepwise.results.replay.stopping import UNKNOWN, Outcome, Rule
from sweepwise.results.statistics.difference import Difference
from sweepwise.results.statistics.estimate import two_sided_p
from sweepwise.results.table import Row, Table


@dataclass(frozen=True)
class Replayed:
    """One rule over all runs of which its end is known.

    Attributes:
        rule: of early stopping.
        saved: share of the epochs that were trained which it would not have trained; None if no end is known.
        lost: how much worse the table's metric would have been, in its unit, > 0: worse; None as above.
        losing: how many of the runs would have been worse at all.
        worst: the largest loss of one run.
        stopped: how many of the runs it would have stopped.
        censored: runs that were stopped before this rule would have stopped them: their end is not known.
        unmeasured: runs that never measured its metric.
        valueless: runs whose weights would have no value of the table's metric.
        rescued: runs that diverged, but that it would have stopped before.
        outcome: what became of each run.
        values: (runs,) of the table's metric, NaN where not known.
        losses: (runs,) how much worse they are than as trained, > 0: worse; NaN where not known.
        saved_by_setting: `saved` of each setting, in the order of `Replay.settings`.
        lost_by_setting: `lost` of each.
    """

    rule: Rule
    saved: Mean | None
    lost: Difference | None
    losing: int
    worst: float
    stopped: int
    censored: int
    unmeasured: int
    valueless: int
    rescued: int
    outcome: Outcome
    values: NDArray[np.float64]
    losses: NDArray[np.float64]
    saved_by_setting: Means
    lost_by_setting: Means

    @property
    def n(self) -> int:
        """Runs that the means are of."""
        return self.saved.n if self.saved else 0


def averaged(
    table: Table,
    curves: Sequence[Curve],
    rule: Rule,
    outcome: Outcome,
    runs: Layout,
    deviation: float,
    confidence: float,
) -> Replayed:
    """Means and intervals of one rule; `deviation`: between the runs of a setting as they were trained."""
    values = np.array(
        [
            _worth(table.metric, curve, rule, int(kept), int(end))
            for curve, kept, end in zip(curves, outcome.kept, outcome.end, strict=True)
        ]
    )
    known = ~np.isnan(values)
    trained = np.array([curve.epochs for curve in curves])
    saved = np.where(known, 1 - (outcome.end + 1) / trained, math.nan)
    losses = table.sign * (values - np.array([value_of(curve.row) for curve in curves]))
    lost = np.where(known, losses, math.nan)
    saved_mean, saved_each = over_settings(saved, runs, confidence)
    lost_mean, lost_each = over_settings(lost, runs, confidence)
    any_known = bool(known.any())
    return Replayed(
        rule,
        _share(saved_mean) if any_known else None,
        _difference(lost_mean, deviation, confidence) if any_known else None,
        int((lost[known] > 0).sum()),
        float(lost[known].max()) if any_known else math.nan,
        int((known & (outcome.stopped != UNKNOWN)).sum()),
        int(outcome.censored.sum()),
        int(outcome.unmeasured.sum()),
        int((outcome.known & np.isnan(values)).sum()),
        0,
        outcome,
        values,
        lost,
        saved_each,
        _open(lost_each),
    )


def _share(saved: Mean) -> Mean:
    """A mean whose interval, if it has one, lies in what a share can be."""
    if not saved.df > 0:
        return saved
    return replace(saved, low=max(saved.low, 0.0), high=min(saved.high, 1.0))


def _worth(metric: str, curve: Curve, rule: Rule, kept: int, end: int) -> float:
    """What the table would show of a run: at the weights kept, or of the training part at the last epoch."""
    if end == UNKNOWN or kept == UNKNOWN:
        return math.nan
    return float(curve.values[metric][kept if rule.metric == metric or metric.startswith("val/") else end])


def _difference(lost: Mean, deviation: float, confidence: float) -> Difference:
    """What is lost, as a difference between the runs with the rule and as they were trained.

    Equal losses, such as none in any run, have no interval: runs that lose much may just not have come.
    """
    equal = not lost.standard_error > 0
    p = 1.0 if equal or not lost.df > 0 else two_sided_p(lost.mean / lost.standard_error, lost.df)
    return Difference(
        mean=lost.mean,
        low=-math.inf if equal else lost.low,
        high=math.inf if equal else lost.high,
        p=p,
        n_a=lost.n,
        n_b=lost.n,
        df=lost.df,
        standard_error=lost.standard_error,
        how="paired",
        deviation_a=math.nan,
        deviation_b=deviation,
        level=1 - confidence,
        adjusted=p,
    )


def _open(lost: Means) -> Means:
    """Losses by setting, without an interval where they are equal."""
    equal = ~(lost.high > lost.low)
    return replace(lost, low=np.where(equal, -math.inf, lost.low), high=np.where(equal, math.inf, lost.high))


def value_of(row: Row) -> float:
    """The value of a run in its table; NaN for none."""
    return math.nan if row.value is None else row.value
