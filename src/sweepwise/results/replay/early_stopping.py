"""What early stopping would have saved in a sweep, and what it would have cost: replayed on logged curves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from sweepwise.errors import UsageError
from sweepwise.improvement import Mode, sign
from sweepwise.results import run_folder
from sweepwise.results.replay import logged
from sweepwise.results.replay.logged import Curves, Reader
from sweepwise.results.replay.losing import RARE, Losing, losing
from sweepwise.results.replay.over_settings import Layout, layout, usual_deviation
from sweepwise.results.replay.replayed import Replayed, averaged, value_of
from sweepwise.results.replay.stopping import UNKNOWN, Rule, outcomes, rules
from sweepwise.results.statistics.estimate import CONFIDENCE, check_confidence, half_width
from sweepwise.results.statistics.verdict import Margin, default_margin
from sweepwise.results.table import Table, Values
from sweepwise.store.record import TEST

PATIENCES = (2, 5, 10, 20)
MIN_DELTAS = (0.0, 0.001)
WATCHED = ("val/loss", "val/accuracy", "val/r2")  # beside the table's metric, unless others are named


@dataclass(frozen=True)
class Replay:
    """All rules.

    Attributes:
        table: of the runs.
        curves: of the runs.
        rules: what became of each rule.
        settings: of the runs that have ended, in the order of the arrays.
        margin: the largest loss that does not matter.
        confidence: of each interval alone.
        shortened: runs that were stopped early themselves: what such a run would have reached is not known.
        runs: the layout of those that have ended.
        rare: the share of seeds that may lose more than the margin by a rule that is recommended.
    """

    table: Table
    curves: Curves
    rules: tuple[Replayed, ...]
    settings: tuple[Values, ...]
    margin: Margin
    confidence: float
    shortened: int
    runs: Layout
    rare: float

    @cached_property
    def recommended(self) -> Replayed | None:
        """The rule that saves most of those that surely save and surely harm few, if any.

        What is sure: of all seeds at most the share `rare` lose more than the margin in any of the settings,
        by Clopper and Pearson, a seed counting once. The mean of what is lost must be less than the margin
        too, by Student's t, which cannot know of losses that are rarer: no number of runs bounds a mean.

        For each metric and `min_delta` rules are tested from the most patient one on, up to the first that is
        not sure: so no level is spent on how many patiences there are. It is divided among these sequences.
        Rules that left the end of a run open are not tested.

        Source: Maurer, Hothorn and Lehmacher, Multiple Comparisons in Drug Clinical Trials and Preclinical
        Assays: A-priori Ordered Hypotheses, Biometrie in der chemisch-pharmazeutischen Industrie 6 (1995).
        """
        sure = []
        for found in self._sequences:
            for one in found:
                if not (self._loses_little(one) and self.harmed(one).bound <= self.rare):
                    break
                sure.append(one)
        return _most_saving(sure)

    @cached_property
    def promising(self) -> Replayed | None:
        """The rule that saves most of those that harmed no run, of which too few seeds were seen, if any."""
        tried = [one for found in self._sequences for one in found]
        return _most_saving([one for one in tried if self._loses_little(one) and not self.harmed(one).runs])

    @cached_property
    def level(self) -> float:
        """How often what is sure of the rules of one metric and `min_delta` may be wrong, in (0, 1)."""
        return (1 - self.confidence) / len({(one.rule.metric, one.rule.min_delta) for one in self.rules})

    def harmed(self, one: Replayed) -> Losing:
        """Who loses more than the margin by a rule."""
        return losing(one.losses, self.margin.value, self.runs, self.level)

    @cached_property
    def _sequences(self) -> list[list[Replayed]]:
        """The rules that left no end open, by metric and `min_delta`, the most patient one first."""
        sequences: dict[tuple[str, float], list[Replayed]] = {}
        for one in sorted(self.rules, key=lambda one: -one.rule.patience):
            if not (one.censored or one.unmeasured or one.valueless):
                sequences.setdefault((one.rule.metric, one.rule.min_delta), []).append(one)
        return list(sequences.values())

    def _loses_little(self, one: Replayed) -> bool:
        lost = one.lost
        if lost is None or not lost.df > 0:
            return False
        half = half_width(lost.standard_error, lost.df, 2 * self.level)  # one side
        return lost.mean + half < self.margin.value


def _most_saving(rules: Sequence[Replayed]) -> Replayed | None:
    """The rule that saves most, of those that surely save."""
    saving = [one for one in rules if one.saved and one.saved.low > 0]
    return max(saving, key=lambda one: one.saved.mean if one.saved else 0.0, default=None)


def replay(
    table: Table,
    metrics: Sequence[str] | None = None,
    patiences: Sequence[int] | None = None,
    min_deltas: Sequence[float] = MIN_DELTAS,
    *,
    min_epochs: int = 0,
    margin: float | None = None,
    rare: float = RARE,
    confidence: float = CONFIDENCE,
    reader: Reader = run_folder.epochs,
) -> Replay:
    """What each rule of early stopping would have made of the runs that have ended.

    Early stopping changes nothing of a run before it ends it, so a run that was trained to its last epoch
    tells of every rule exactly when it would have stopped, which weights would have been kept, and what they
    are worth. A run that was stopped early tells it of rules that would have stopped it no later; of others
    its end is censored: such runs are counted, and are in no mean. Epochs and values are compared with the
    run as it was trained, so what is lost against a run that was stopped early is a lower bound.

    Args:
        table: of the runs, read from their folders; its metric is the one by which values are judged.
        metrics: that are watched; None: the table's, val/loss, val/accuracy and val/r2, where measured.
        patiences: in epochs, >= 0; None: those of `PATIENCES` that could stop the longest run.
        min_deltas: >= 0, in the unit of each metric.
        min_epochs: epochs before which no rule stops, >= 0.
        margin: the largest loss that does not matter, > 0, in the unit of the table's metric; None: that of
            `verdict.default_margin`, by the runs as they were trained, of the median setting.
        rare: the share of seeds that may lose more than the margin by a recommended rule, in (0, 1).
        confidence: of each interval alone, in (0, 1).
        reader: gives the lines of a run's epochs from its folder.

    Raises:
        UsageError: a value is out of range, no run has ended with a whole curve, or none has a metric.
    """
    check_confidence(confidence)
    if margin is not None and not 0 < margin < math.inf:
        rule = "must be more than 0 and finite, in the metric's unit"
        raise UsageError([f"margin={margin:g}: {rule}"])
    if not 0 < rare < 1:
        raise UsageError([f"rare={rare:g}: must be between 0 and 1, a share of seeds such as {RARE:g}"])
    watched = list(metrics) if metrics is not None else _usual(table)
    if tests := [metric for metric in watched if metric.startswith(TEST)]:
        rule = "must be of the validation or training part, as in a training"
        raise UsageError([f"metric={tests[0]}: {rule}"])
    modes: list[Mode] = [
        table.mode if metric == table.metric and sign(metric, "auto") != table.sign else "auto"
        for metric in watched
    ]
    asked = rules(watched, PATIENCES if patiences is None else patiences, min_deltas, min_epochs, modes)
    curves = logged.read(table, [*watched, table.metric], reader)
    if not curves.ended:
        told = ", ".join(f"{count} {why}" for why, count in curves.left_out.items())
        where = ", ".join(map(str, table.homes)) or "records"
        raise UsageError([f"{where}: a run must have ended with a whole curve, but there is none ({told})"])
    for metric in watched:
        if not any(curve.measured[metric].any() for curve in curves.ended):
            there = ", ".join(_measured(table)) or "none"
            raise UsageError([f"metric={metric}: must have been measured; there is {there}"])
    if patiences is None:
        longest = max(curve.epochs for curve in curves.ended)
        asked = [rule for rule in asked if rule.patience < longest - 1 or rule.patience == PATIENCES[0]]
    return _replayed(table, curves, asked, margin, rare, confidence)


def _replayed(
    table: Table,
    curves: Curves,
    asked: Sequence[Rule],
    margin: float | None,
    rare: float,
    confidence: float,
) -> Replay:
    rows = [curve.row for curve in curves.ended]
    runs = layout([row.setting for row in rows], [row.replicate for row in rows])
    settings = tuple(dict.fromkeys(row.setting for row in rows))
    deviation = usual_deviation([value_of(row) for row in rows], runs)
    before = [one.stopped != UNKNOWN for one in outcomes(curves.diverged, asked)] if curves.diverged else []
    found = tuple(
        averaged(table, curves.ended, rule, outcome, runs, deviation, confidence)
        for rule, outcome in zip(asked, outcomes(curves.ended, asked), strict=True)
    )
    if before:
        found = tuple(
            replace(one, rescued=int(stopped.sum())) for one, stopped in zip(found, before, strict=True)
        )
    lost = next((one.lost for one in found if one.lost), None)
    limit = Margin(math.nan, "no run has a known end") if lost is None else default_margin(lost)
    limit = limit if margin is None else Margin(margin, "given")
    shortened = sum(not curve.whole for curve in curves.ended)
    return Replay(table, curves, found, settings, limit, confidence, shortened, runs, rare)


def _usual(table: Table) -> list[str]:
    """The metrics that are replayed unless others are named: those that every run with a value measured."""
    there = set(_measured(table))
    usual = [tag for tag in (table.metric, *WATCHED) if tag in there]
    return list(dict.fromkeys(usual)) or [table.metric]


def _measured(table: Table) -> list[str]:
    """The metrics, not of the test part, of all runs that have ended."""
    counts = Counter(tag for row in table.rows if row.ended for tag in {*row.best, *row.last})
    ended = sum(row.ended for row in table.rows)
    return sorted(tag for tag, count in counts.items() if count == ended and not tag.startswith(TEST))
