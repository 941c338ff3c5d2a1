"""Rules of early stopping on logged curves: where many runs would have stopped, for many rules at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweepwise.early_stop.patience import Patience
from sweepwise.errors import UsageError
from sweepwise.improvement import Mode, sign
from sweepwise.results.replay.logged import Curve
from sweepwise.results.run_folder import shown

CELLS = 2**20  # runs times epochs that are looked at together
UNKNOWN = -1


@dataclass(frozen=True)
class Rule:
    """`early_stop=patience` with these values.

    Attributes:
        metric: that is watched.
        patience: epochs without improvement, >= 0.
        min_delta: by how much a value must be better to count, >= 0.
        min_epochs: epochs before which it never stops, >= 0.
        mode: which direction of the metric is better.
    """

    metric: str
    patience: int
    min_delta: float = 0.0
    min_epochs: int = 0
    mode: Mode = "auto"

    @property
    def overrides(self) -> list[str]:
        """What trains with it."""
        given: dict[str, Any] = {"metric": self.metric, "patience": self.patience}
        given |= {"min_delta": self.min_delta} if self.min_delta else {}
        given |= {"min_epochs": self.min_epochs} if self.min_epochs else {}
        given |= {"mode": self.mode} if self.mode != "auto" else {}
        return ["early_stop=patience", *(f"early_stop.{key}={shown(value)}" for key, value in given.items())]


@dataclass(frozen=True)
class Outcome:
    """What a rule would have made of runs: arrays (runs,).

    Attributes:
        stopped: the epoch, from 0, after which it would have stopped a run; UNKNOWN: it would not have.
        kept: the epoch whose weights would have been kept; UNKNOWN: none, or not known.
        end: the last epoch that would have been trained; UNKNOWN where `censored`, or `unmeasured`.
        censored: the run itself was stopped before the rule would have stopped it, so nobody knows when.
        unmeasured: the run never measured the rule's metric.
    """

    stopped: NDArray[np.int64]
    kept: NDArray[np.int64]
    end: NDArray[np.int64]
    censored: NDArray[np.bool_]
    unmeasured: NDArray[np.bool_]

    @property
    def known(self) -> NDArray[np.bool_]:
        """(runs,) of which runs the end is known."""
        return self.end != UNKNOWN


def rules(
    metrics: Sequence[str],
    patiences: Sequence[int],
    min_deltas: Sequence[float],
    min_epochs: int = 0,
    modes: Sequence[Mode] = (),
) -> list[Rule]:
    """Every combination, each refused that `early_stop=patience` refuses.

    Args:
        metrics: one or more.
        patiences: the same.
        min_deltas: the same.
        min_epochs: of all rules.
        modes: of the metrics; by their names if left out.

    Raises:
        UsageError: with every fault.

    Example:
        >>> rules(["val/loss"], [2, -1], [0.0])
        Traceback (most recent call last):
        sweepwise.errors.UsageError: patience=-1: must be in [0, inf)
    """
    faults: list[str] = []
    for name, given in {"metric": metrics, "patience": patiences, "min_delta": min_deltas}.items():
        if not given:
            faults.append(f"{name}=: must be given one value or more")
        if len(set(given)) < len(given):
            faults.append(f"{name}={','.join(map(str, given))}: each must be named once")
    found = []
    ways = dict(zip(metrics, modes, strict=True)) if modes else {}
    for metric, delta, patience in itertools.product(metrics, min_deltas, patiences):
        rule = Rule(metric, patience, delta, min_epochs, ways.get(metric, "auto"))
        try:
            Patience(**{name: getattr(rule, name) for name in Rule.__dataclass_fields__})
        except UsageError as error:
            faults += [fault.removeprefix("early_stop.") for fault in error.faults]
        found.append(rule)
    if faults:
        raise UsageError(list(dict.fromkeys(faults)))
    return found


def outcomes(curves: Sequence[Curve], asked: Sequence[Rule]) -> list[Outcome]:
    """What each rule would have made of each run.

    The rule is `early_stop.patience.Patience`, and the weights that are kept are chosen by
    `improvement.Best`, as in a training; both are done for many runs at once (a test holds that they agree).
    """
    runs = len(curves)
    stopped, kept, end = (np.full((len(asked), runs), UNKNOWN) for _ in range(3))
    order = sorted(range(runs), key=lambda run: curves[run].epochs)
    for block in _blocks([curves[run].epochs for run in order]):
        part = order[block]
        for metric in dict.fromkeys(rule.metric for rule in asked):
            watched = _watched([curves[run] for run in part], metric)
            places = [place for place, rule in enumerate(asked) if rule.metric == metric]
            replayed = watched.replayed([asked[place] for place in places])
            for place, epochs in zip(places, replayed, strict=True):
                stopped[place, part], kept[place, part], end[place, part] = epochs
    whole = np.array([curve.whole for curve in curves], dtype=bool)
    found = []
    for place, rule in enumerate(asked):
        never = np.array([not curve.measured[rule.metric].any() for curve in curves], dtype=bool)
        censored = ~never & ~whole & (stopped[place] == UNKNOWN)
        kept[place][censored | never] = UNKNOWN
        end[place][censored | never] = UNKNOWN
        found.append(Outcome(stopped[place], kept[place], end[place], censored, never))
    return found


def _blocks(lengths: Sequence[int]) -> list[slice]:
    """Cuts runs, which are sorted by their epochs, so that none is padded to much more than it has."""
    blocks, begin = [], 0
    for place in range(1, len(lengths) + 1):
        if place == len(lengths) or (place + 1 - begin) * lengths[place] > CELLS:
            blocks.append(slice(begin, place))
            begin = place
    return blocks


@dataclass(frozen=True)
class _Watched:
    """A metric of some runs.

    Attributes:
        values: (runs, epochs), NaN where not finite.
        measured: (runs, epochs); False past the end of a run.
        last: (runs,) the last epoch.
        whole: (runs,) whether that is the last one that the run could have had.
    """

    values: NDArray[np.float64]
    measured: NDArray[np.bool_]
    last: NDArray[np.int64]
    whole: NDArray[np.bool_]

    def replayed(self, asked: Sequence[Rule]) -> list[tuple[NDArray[np.int64], ...]]:
        """For each rule: the epoch of its stop, that of the weights, and the last one."""
        runs = np.arange(len(self.values))
        bests = {(rule.mode, 0.0) for rule in asked} | {(rule.mode, rule.min_delta) for rule in asked}
        metric = asked[0].metric
        improved = {key: self._best_at(sign(metric, key[0]), key[1]) for key in bests}
        epochs = np.arange(self.values.shape[1])
        found: list[tuple[NDArray[np.int64], ...]] = []
        for rule in asked:
            at = improved[rule.mode, rule.min_delta]
            waited = epochs - at
            patience = min(max(rule.patience, 1), len(epochs) + 1)  # 0 waits for an epoch without, as 1 does
            stops = self.measured & (waited >= patience) & (epochs + 1 >= rule.min_epochs)
            first = stops.argmax(axis=1)
            stop = np.where(stops[runs, first], first, UNKNOWN)
            stop = np.where(self.whole & (stop == self.last), UNKNOWN, stop)  # there was no more to train
            end = np.where(stop == UNKNOWN, self.last, stop)
            found.append((stop, improved[rule.mode, 0.0][runs, end], end))
        return found

    def _best_at(self, direction: int, min_delta: float) -> NDArray[np.int64]:
        """(runs, epochs) the epoch of the best value so far, as `Best` finds it; UNKNOWN: there is none."""
        best = np.full(len(self.values), np.nan)
        at = np.full(len(self.values), UNKNOWN)
        found = np.empty(self.values.shape, dtype=np.int64)
        for epoch, value in enumerate(self.values.T):
            first = np.isnan(best) & ~np.isnan(value)
            better = first | (direction * value < direction * (best - direction * min_delta))
            best = np.where(better, value, best)
            at = np.where(better, epoch, at)
            found[:, epoch] = at
        return found


def _watched(curves: Sequence[Curve], metric: str) -> _Watched:
    lengths = np.array([curve.epochs for curve in curves])
    values = np.full((len(curves), int(lengths.max(initial=1))), np.nan)
    measured = np.zeros(values.shape, dtype=bool)
    for row, curve in enumerate(curves):
        values[row, : curve.epochs] = curve.values[metric]
        measured[row, : curve.epochs] = curve.measured[metric]
    return _Watched(values, measured, lengths - 1, np.array([curve.whole for curve in curves], dtype=bool))
