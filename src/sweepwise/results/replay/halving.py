"""Whether successive halving would have kept the best setting of a sweep: replayed on logged curves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweepwise.errors import UsageError
from sweepwise.results import run_folder
from sweepwise.results.answer import ranking
from sweepwise.results.replay import logged
from sweepwise.results.replay.halving_pool import Pool
from sweepwise.results.replay.logged import Curves, Reader
from sweepwise.results.table import Table, Values

DRAWS = 1000
MOST_CELLS = 2_000_000  # draws times settings
ETA = 3


@dataclass(frozen=True)
class Halving:
    """What successive halving would have made of a sweep.

    Attributes:
        rungs: epochs after which settings are compared.
        eta: one of this many is kept at a rung.
        settings: that take part.
        sizes: how many settings are trained up to each rung, and to the end.
        winner: the setting with the best mean over its runs.
        kept: share of the draws in which it was trained to the end, in [0, 1].
        draws: how many; 1 where each setting has one run, which is no chance but one case.
        seeds_kept: replicates with whose runs alone the winner was kept.
        seeds: replicates that all settings have.
        own_kept: replicates with whose runs alone that replicate's own best setting was kept.
        by_means: whether it was kept where each rung compares settings by all their replicates, as a ranking
            does: by the share of runs that failed, then by the mean of the others.
        lost: what the chosen setting's mean is worse than the winner's, of runs that did not fail, >= 0; mean
            over the draws that chose a setting which fails no more often. NaN: there is none.
        failing: share of the draws that chose a setting of whose runs more fail than of the winner's.
        saved: share of the epochs that were trained which would not have been, mean over draws.
        left_out: settings that take no part, as no run of them has ended, with a curve that can be compared.
    """

    rungs: tuple[int, ...]
    eta: int
    settings: int
    sizes: tuple[int, ...]
    winner: Values
    kept: float
    draws: int
    seeds_kept: int
    seeds: int
    own_kept: int
    by_means: bool
    lost: float
    failing: float
    saved: float
    left_out: int


def halving(
    table: Table,
    rungs: Sequence[int] | None = None,
    eta: int = ETA,
    *,
    curves: Curves | None = None,
    reader: Reader = run_folder.epochs,
) -> Halving:
    """Whether successive halving would have kept the winner.

    All settings are trained to the first rung. There the best 1 / eta of them, rounded down but at least one,
    by their values of the table's metric, are trained on to the next rung, and so on. What is left after the
    last rung is trained to the end, and the best of it is chosen. A value at a rung is that of the latest
    validation up to there. A run that had ended before counts with what it ended with; one that had diverged
    or failed is the worst. Where values are equal, chance decides.

    The winner is the setting with the best mean over its runs. A search sees one run of each setting, so how
    it fares is chance: a draw takes one run of each setting, independently. The share of draws in which the
    winner was kept says how often a search with one seed would have found it.

    Args:
        table: of the runs.
        rungs: epochs, >= 1, each larger than the one before; None: 1, eta, eta^2, ... below the
            longest run, as many as leave one setting or more.
        eta: >= 2.
        curves: of the table with its metric, where they have been read.
        reader: gives the lines of a run's epochs from its folder.

    Raises:
        UsageError: a value is out of range, fewer than two settings can take part, or the metric was not
            measured by the first rung.

    Source: Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization,
    arXiv:1502.07943, figure 3; rungs and eta as in Li et al., A System for Massively Parallel Hyperparameter
    Tuning, arXiv:1810.05934, algorithm 1.
    """
    found = logged.read(table, [table.metric], reader) if curves is None else curves
    by_row = {id(curve.row): curve for curve in (*found.ended, *found.diverged, *found.others)}
    rows = [row for row in table.rows if (row.ended and id(row) in by_row) or row.failed]
    longest = max((row.epochs for row in rows if row.ended), default=0)
    if not longest:
        raise UsageError(["rungs: two settings or more must have runs that have ended, but none has"])
    chosen = _rungs(rungs, eta, longest, len(table.cells))
    pool = Pool.of(table, [(row, by_row.get(id(row))) for row in rows], chosen)
    return _replayed(table, pool, chosen, eta)


def _rungs(rungs: Sequence[int] | None, eta: int, longest: int, settings: int) -> tuple[int, ...]:
    """The rungs, checked."""
    if not isinstance(eta, int) or eta < 2:
        raise UsageError([f"eta={eta}: must be a whole number, 2 or more"])
    if rungs is None:
        usual = [1]
        while usual[-1] * eta < longest and settings >= eta ** (len(usual) + 1):
            usual.append(usual[-1] * eta)
        return tuple(usual)
    text = ",".join(map(str, rungs))
    if not rungs or rungs[0] < 1 or any(after <= before for before, after in itertools.pairwise(rungs)):
        raise UsageError([f"rungs={text}: must be epochs, 1 or more, each larger than the one before"])
    if rungs[-1] >= longest:
        raise UsageError([f"rungs={text}: must be fewer than the {longest} epochs of the longest run"])
    return tuple(rungs)


@dataclass(frozen=True)
class _Searches:
    """Searches that each saw one run of each setting.

    Attributes:
        alive: (searches, settings) whether a setting was trained to the end.
        chosen: (searches,) the best of these.
        saved: (searches,) share of the epochs.
    """

    alive: NDArray[np.bool_]
    chosen: NDArray[np.int64]
    saved: NDArray[np.float64]


def _searched(
    costs: NDArray[np.float64],
    ends: NDArray[np.float64],
    epochs: NDArray[np.int64],
    rungs: Sequence[int],
    sizes: Sequence[int],
    generator: np.random.Generator,
) -> _Searches:
    """Successive halving: costs (searches, settings, rungs), ends and epochs (searches, settings)."""
    chance = generator.random(ends.shape)  # decides where values are equal
    alive = np.ones(ends.shape, dtype=bool)
    used = epochs.copy()
    for place, (rung, size) in enumerate(zip(rungs, sizes[1:], strict=True)):
        order = np.lexsort((chance, costs[..., place], ~alive), axis=1)
        stay = np.zeros_like(alive)
        np.put_along_axis(stay, order[:, :size], True, axis=1)
        used = np.where(alive & ~stay, np.minimum(rung, epochs), used)
        alive = stay
    chosen = np.lexsort((chance, ends, ~alive), axis=1)[:, 0]
    return _Searches(alive, chosen, 1 - used.sum(axis=1) / np.maximum(epochs.sum(axis=1), 1))


def _replayed(table: Table, pool: Pool, rungs: tuple[int, ...], eta: int) -> Halving:
    generator = np.random.default_rng(0)
    count = len(pool.settings)
    sizes = (count, *(max(count // eta ** (place + 1), 1) for place in range(len(rungs))))
    winner = next(one.setting for one in ranking(table) if one.setting in set(pool.settings))
    best = pool.settings.index(winner)

    drawn = bool((~np.isnan(pool.ends)).sum(axis=1).max() > 1)
    draws = min(DRAWS, max(MOST_CELLS // count, 1)) if drawn else 1
    picked = pool.drawn(draws, generator)
    every = np.arange(count)
    by_draw = _searched(
        pool.costs[every, picked],
        pool.ends[every, picked],
        pool.epochs[every, picked],
        rungs,
        sizes,
        generator,
    )
    whole = pool.whole
    ends = pool.ends[:, whole].T
    by_seed = _searched(
        pool.costs[:, whole].swapaxes(0, 1), ends, pool.epochs[:, whole].T, rungs, sizes, generator
    )
    by_means = _searched(*pool.ranks(), rungs, sizes, generator)
    lost, failing = _chosen(pool, by_draw.chosen, best)
    own = np.where(by_seed.alive, ends, np.inf).min(axis=1, initial=np.inf) <= ends.min(
        axis=1, initial=np.inf
    )
    return Halving(
        rungs=rungs,
        eta=eta,
        settings=count,
        sizes=sizes,
        winner=winner,
        kept=float(by_draw.alive[:, best].mean()),
        draws=draws,
        seeds_kept=int(by_seed.alive[:, best].sum()),
        seeds=len(whole),
        own_kept=int(own.sum()),
        by_means=bool(by_means.alive[0, best]),
        lost=lost,
        failing=failing,
        saved=float(by_draw.saved.mean()),
        left_out=pool.left_out,
    )


def _chosen(pool: Pool, chosen: NDArray[np.int64], best: int) -> tuple[float, float]:
    """What is lost by the settings that were chosen, and the share of them that fail more often."""
    failed, means = pool.results()
    worse = failed[chosen] > failed[best]
    lost = (means[chosen] - means[best])[~worse]
    return float(lost.mean()) if len(lost) else math.nan, float(worse.mean())
