"""Patience that ended runs which others show would have improved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scipy.special import bdtrc, stdtrit

from sweepwise.results.answer import Answer
from sweepwise.results.critique.curves import Curve, Curves, curve
from sweepwise.results.critique.finding import LEVEL, Finding
from sweepwise.results.critique.leading import MARGIN, spread
from sweepwise.results.further_runs import one_command, replicates_of
from sweepwise.results.languages import Both
from sweepwise.results.statistics.estimate import moments
from sweepwise.results.table import Row, Table, Values

PATIENCE, EPOCHS = "early_stop.patience", "trainer.max_epochs"
RULE = ("early_stop", PATIENCE, "early_stop.min_delta", "early_stop.min_epochs")  # which settings share
MOST_GROUPS = 30  # of settings, the best ones, whose curves are read
MOST_RUNS = 10  # of each
USUAL = 0.05  # share of the stopped runs of which others may look so without a fault
LEAST = 2  # runs
SEVERAL = 3  # runs that say how much a setting's values scatter
SHOWN = 1 / 3  # share of the longer runs that must show it of one
ON_AVERAGE = 0.7  # of the margin: better by it are longer runs, also those that rested or fell late
AS_BAD = 0.25  # of the margin: no better than the stopped run


@dataclass(frozen=True)
class _Stand:
    """A time without improvement.

    Attributes:
        curve: of the run.
        start: place in it of the best epoch so far.
        end: place of the next better one; equal to `start` where there was no such time.
    """

    curve: Curve
    start: int
    end: int

    @property
    def wait(self) -> int:
        """Epochs until the run improved again."""
        return self.curve.epochs[self.end] - self.curve.epochs[self.start]

    @property
    def change(self) -> float:
        """The mean cost afterwards less that of the time itself, without the best epochs that bound it.

        0 where no epochs remain: of a wait of one epoch nothing is known.
        """
        during, after = self.curve.costs[self.start + 1 : self.end], self.curve.costs[self.end + 1 :]
        if not during or not after:
            return 0.0
        return math.fsum(after) / len(after) - math.fsum(during) / len(during)

    def shows(self, one: Curve, margin: float) -> bool:
        """Whether the run went on to be better than this one, after as long a wait as half of its own."""
        return (
            min(self.curve.costs) < min(one.costs) - margin
            and self.wait >= (one.epochs[-1] - one.best_epoch) / 2
            and self.change < -margin
        )


def impatience(answer: Answer, curves: Curves) -> Iterator[Finding]:
    """Whether early stopping ended runs that would have improved, as longer runs show.

    A stopped run was ended too early as others show if a third of the runs that went on for longer at the
    same settings (its seed by another rule of early stopping, else other seeds) stood where it ended for half
    of its wait or more, no better and not worse by the margin, and were better afterwards by the margin of
    `MARGIN` standard deviations of a run, as their best epochs have it and the means over all epochs, too. Of
    all stopped runs more than `USUAL` must be so, by a binomial test.

    At rest the best of many epochs is better than that of few by luck alone. But then a run is as likely to
    be worse after it stood as to be better: so the longer runs must surely be better than while they stood
    (one-sided t test), on average over epochs and runs by `ON_AVERAGE` of the margin.
    """
    table = answer.table
    groups = list(_groups(answer).items())[:MOST_GROUPS]
    stopped, early, waits, patient = 0, [], [0], [0]
    shifts: list[float] = []  # of the longer runs after they stood, in margins
    for _, rows in groups:
        if not any(row.status == "stopped early" for row in rows):
            continue
        found = [one for row in rows[:MOST_RUNS] for one in [curve(table, row, curves)] if one]
        margin = MARGIN * _scatter(table, found)
        if not margin > 0:
            continue
        ended = [one for one in found if one.row.status == "stopped early"]
        stopped += len(ended)
        moved: dict[int, list[float]] = {}
        for one in ended:
            stands = _stands(one, found, margin)
            for stand in stands:
                moved.setdefault(id(stand.curve), []).append(stand.change)
            showing = [stand for stand in stands if stand.shows(one, margin)]
            if showing and len(showing) >= SHOWN * len(stands):
                early.append(one)
                waits += [stand.wait for stand in showing]
                value = one.row.run.settings.get(PATIENCE)
                patient.append(value if isinstance(value, int) else one.epochs[-1] - one.best_epoch)
        shifts += [math.fsum(each) / len(each) / margin for each in moved.values()]
    if len(early) < LEAST or float(bdtrc(len(early) - 1, stopped, USUAL)) > LEVEL / 2:
        return
    shift, deviation = moments(shifts)
    surely = float(stdtrit(len(shifts) - 1, 1 - LEVEL / 2)) * deviation / math.sqrt(len(shifts))
    if not (shift < -ON_AVERAGE and shift < -surely):
        return
    patience = max(patient)
    enough = max(2 * patience, max(waits) + 1)
    settings = [ranked.setting for ranked in answer.ranking if ranked.setting in _settings(early)]
    epochs = [n for one in early if isinstance(n := one.row.run.settings.get(EPOCHS), int)]
    changes = {PATIENCE: [enough]}
    if epochs and enough >= min(epochs):  # which would be refused, as it could never act
        enough = min(epochs) - 1
        changes = {PATIENCE: [enough]}
        if enough <= patience:
            enough = 2 * patience
            changes = {PATIENCE: [enough], EPOCHS: [2 * enough]}
    command = one_command(table, settings, changes, replicates_of(table, settings))
    yield Finding(
        "patience",
        Both(
            f"a patience of {patience} epochs ended runs that would have improved: take more, such as "
            f"{PATIENCE}={enough}",
            f"{patience} 轮的耐心值过早结束了还会改善的运行：请加大，例如 {PATIENCE}={enough}",
        ),
        Both(
            f"{len(early)} of {stopped} runs that early stopping ended: others with the same settings were "
            f"no better, and improved after up to {max(waits)} epochs without improvement",
            f"早停结束的 {stopped} 次运行中有 {len(early)} 次：同样设置的其他运行当时并不更好，"
            f"却在最多 {max(waits)} 轮没有改善之后又改善了",
        ),
        command,
    )


def _groups(answer: Answer) -> dict[Values, list[Row]]:
    """The runs that share all settings but the rule of early stopping, the best first."""
    table = answer.table
    kept = [place for place, key in enumerate(table.settings) if key not in RULE]
    groups: dict[Values, list[Row]] = {}
    for ranked in answer.ranking:
        rows = [row for row in table.cells[ranked.setting] if row.ended]
        groups.setdefault(tuple(ranked.setting[place] for place in kept), []).extend(rows)
    return groups


def _settings(curves: Sequence[Curve]) -> list[Values]:
    return list(dict.fromkeys(one.row.setting for one in curves))


def _scatter(table: Table, found: Sequence[Curve]) -> float:
    """Standard deviation between the replicates of a setting: of that which scatters least, by its patience.

    Where some of a setting's runs were ended too early and others were not, its values scatter by just that.
    """
    cells = [[one.row for one in found if one.row.setting == at] for at in _settings(found)]
    known = [spread(table, [cell]) for cell in cells if len(cell) >= SEVERAL]
    return min(known) if known else spread(table, cells)


def _stands(one: Curve, others: Sequence[Curve], margin: float) -> list[_Stand]:
    """How the runs that went on for longer stood where this one ended: of its seed, where there are such."""
    longer = [other for other in others if other is not one and other.epochs[-1] > one.epochs[-1] + 1]
    longer = [other for other in longer if other.row.replicate == one.row.replicate] or longer
    return [_stand(other, min(one.costs), margin) for other in longer]


def _stand(one: Curve, reached: float, margin: float) -> _Stand:
    """The longest time for which a run stood where another one ended, before it went on to improve."""
    best, since, longest = math.inf, 0, (0, 0)
    for place, cost in enumerate(one.costs):
        if cost < best:
            stood = reached - AS_BAD * margin <= best <= reached + margin
            if stood and place - since > longest[1] - longest[0]:
                longest = since, place
            best, since = cost, place
    return _Stand(one, *longest)
