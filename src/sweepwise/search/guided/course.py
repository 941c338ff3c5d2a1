"""A stage as a procedure: it asks for runs, waits, and goes on with their results.

A procedure is a generator of steps. When it goes on, the results of the runs that it has asked for stand in
the ledger. It keeps nothing between two steps of a search: `Guided.next` follows it from its beginning each
time.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from sweepwise.search.guided.ledger import Ledger
from sweepwise.search.measured import Overrides
from sweepwise.search.strategy import Result, Step, Strategy, Trial

T = TypeVar("T")
Course = Generator[Step, None, T]


def key_of(override: str) -> str:
    """The key that an override sets.

    Example:
        >>> key_of("optimizer.lr=0.1")
        'optimizer.lr'
    """
    return override.partition("=")[0].lstrip("+")


def merged(*parts: Iterable[str]) -> Overrides:
    """Overrides together, the last one of a key counts; in one order, so the same run is the same tuple.

    Example:
        >>> merged(("init=xavier", "optimizer.lr=0.1"), ("optimizer.lr=1",), ())
        ('init=xavier', 'optimizer.lr=1')
    """
    by_key = {key_of(text): text for part in parts for text in part}
    return tuple(by_key[key] for key in sorted(by_key))


def told(stage: str, step: Step) -> Step:
    """A step whose decisions and lines name the stage that they are of."""
    decisions = tuple(replace(one, about={"stage": stage, **one.about}) for one in step.decisions)
    return replace(step, decisions=decisions, said=tuple(f"{stage}: {line}" for line in step.said))


def follow(strategy: Strategy, base: Overrides, stage: str, ledger: Ledger, sign: int) -> Course[Step]:
    """Follows a strategy among settings that are named by how they differ from a base; returns its last step.

    At an epoch a run counts by the best value up to there, as it keeps its best weights: who learns fast and
    overfits before a rung is not worse for it.

    Args:
        strategy: decides.
        base: overrides that all its runs have besides.
        stage: its decisions are said to be of this one.
        ledger: has the results.
        sign: 1 where lower values are better, -1 where higher ones are.
    """
    own: dict[Overrides, Result] = {}
    while True:
        step = strategy.next(own)
        trials = tuple(Trial(merged(base, one.overrides), one.epochs) for one in step.trials)
        yield told(stage, replace(step, trials=trials, said=step.said if trials else step.said[:1]))
        if not trials:
            return step
        for one in step.trials:
            own[one.overrides] = best_so_far(ledger.result(merged(base, one.overrides)), sign)


def best_so_far(result: Result, sign: int) -> Result:
    """A result whose curve has the best value up to each epoch."""
    return replace(result, curve=_best_so_far(result.curve, sign))


def _best_so_far(curve: Mapping[int, float], sign: int) -> dict[int, float]:
    """The best value up to each epoch; NaN where none was finite.

    Example:
        >>> _best_so_far({1: 0.5, 2: 0.4, 4: 0.6}, 1)
        {1: 0.5, 2: 0.4, 4: 0.4}
    """
    best, found = math.nan, {}
    for epoch, value in sorted(curve.items()):
        best = value if not sign * best <= sign * value else best
        found[epoch] = best
    return found


def whole(base: Overrides, settings: Iterable[Overrides], seeds: Iterable[int]) -> list[Trial]:
    """Whole trainings of settings, with each of some seeds."""
    numbers = list(seeds)
    return [Trial(run_of(base, setting, seed)) for setting in settings for seed in numbers]


def run_of(base: Overrides, setting: Overrides, seed: int) -> Overrides:
    """The overrides of a run."""
    return merged(base, setting, (f"seed.value={seed}",))
