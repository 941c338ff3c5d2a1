"""Compares settings as thoroughly as a purse allows: whole trainings, a race, halving from some epoch on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sweepwise.search.guided.account import Compared, Cost
from sweepwise.search.guided.course import Course, best_so_far, follow, run_of, told, whole
from sweepwise.search.guided.ledger import Ledger, Purse
from sweepwise.search.guided.stage import Question, State, compared, mean, to_the_end
from sweepwise.search.halving import Halving, HalvingSettings
from sweepwise.search.measured import Overrides, value_at
from sweepwise.search.racing import Racing, RacingSettings
from sweepwise.search.strategy import Decision, Step
from sweepwise.search.words import counted, setting_named

FEWEST = 3  # seeds with which a race begins
RACED = 8  # settings at most
ETA = 3


@dataclass(frozen=True)
class Outcome:
    """What a comparison has found.

    Attributes:
        ranking: of the settings that were trained to their end, the best first.
        others: settings that were not, with their values at the first rung, the best first.
        how: in words.
        left_open: in words.
    """

    ranking: tuple[Compared, ...] = ()
    others: tuple[Compared, ...] = ()
    how: str = ""
    left_open: str = ""


def race(
    question: Question, state: State, settings: Sequence[Overrides], purse: Purse, stage: str
) -> Course[Outcome]:
    """Races settings; the purse must hold `FEWEST` seeds of each."""
    base = to_the_end(question, state.overrides)
    rules = RacingSettings(min_seeds=FEWEST, margin=question.margin, budget=_budget(purse, base, settings))
    racing = Racing(settings, None, question.training.sign, rules)
    step = yield from follow(racing, base, stage, purse.ledger, question.training.sign)
    end = step.decisions[-1].about
    ranking = compared(purse.ledger, base, settings, range(int(end["seeds"])), question.training.sign)
    left = len(end["left"])
    seeds = f"{FEWEST} to {end['seeds']}" if end["seeds"] > FEWEST else f"{FEWEST}"
    how = f"raced {counted(len(settings), 'setting')} with {seeds} seeds; {step.decisions[-1].why}"
    best = next((row for row in ranking if setting_named(row.overrides) == end.get("best")), None)
    order = [best, *(row for row in ranking if row is not best)] if best else ranking
    left_open = f"{counted(left - 1, 'other setting')} not surely worse" if left > 1 else ""
    return Outcome(tuple(order), how=how, left_open=left_open)


def _budget(purse: Purse, base: Overrides, settings: Sequence[Overrides]) -> int | None:
    """Runs that a race may ask for, those that are known included."""
    trainings = purse.trainings
    if trainings is None:
        return None
    first = whole(base, settings, range(FEWEST))
    return max(len(first), trainings + len(first) - purse.ledger.price(first).runs)


def can_race(question: Question, state: State, settings: Sequence[Overrides], purse: Purse) -> bool:
    """Whether a race is worth beginning, and the purse has room for it."""
    base = to_the_end(question, state.overrides)
    return 1 < len(settings) <= RACED and purse.affords(whole(base, settings, range(FEWEST)))


def train(
    question: Question, state: State, choices: Sequence[Sequence[Overrides]], purse: Purse, stage: str
) -> Course[Outcome | None]:
    """Trains settings to their end, with as many seeds as fit; None if none does.

    Args:
        question: what is searched.
        state: what is decided.
        choices: lists of settings, of which the first is taken that fits.
        purse: what may be spent.
        stage: in whose name.
    """
    base = to_the_end(question, state.overrides)
    for settings, seeds in itertools.product(choices, range(state.seeds, 0, -1)):
        trials = whole(base, settings, range(seeds))
        if settings and purse.affords(trials):
            why = f"{counted(len(settings), 'setting')} with {counted(seeds, 'seed')} each, to the end"
            about = {"settings": [list(setting) for setting in settings], "runs": len(trials)}
            yield told(stage, Step((Decision("begin", why, about),), tuple(trials), (why,)))
            ranking = compared(purse.ledger, base, settings, range(seeds), question.training.sign)
            return Outcome(tuple(ranking), how=f"trained {why}")
    return None


def again(
    question: Question, state: State, ranking: Sequence[Compared], most: int, purse: Purse, stage: str
) -> Course[Outcome]:
    """Compares the best settings once more, with more seeds: a race if there is room, else a few seeds.

    Args:
        question: what is searched.
        state: what is decided.
        ranking: of settings, the best first; at least one, with values.
        most: settings that are compared again.
        purse: what may be spent.
        stage: in whose name.

    Returns:
        The ranking, those that were compared again first.
    """
    base, sign = to_the_end(question, state.overrides), question.training.sign
    close = [row.overrides for row in ranking[:most]]
    if len(close) > 1 and can_race(question, state, close, purse):
        raced = yield from race(question, state, close, purse, stage)
        if raced.ranking and raced.ranking[0].values:
            others = (row for row in ranking if row.overrides not in close)
            return replace(raced, ranking=(*raced.ranking, *others))
    for number, seeds in itertools.product(range(len(close), 1, -1), range(FEWEST, 1, -1)):
        trials = whole(base, close[:number], range(seeds))
        if purse.affords(trials) and purse.ledger.missing(trials):
            why = f"the best {number} with {counted(seeds, 'seed')}"
            about = {"settings": [list(setting) for setting in close[:number]], "runs": len(trials)}
            yield told(stage, Step((Decision("add", why, about),), tuple(trials), (why,)))
            best = compared(purse.ledger, base, close[:number], range(seeds), sign)
            others = (row for row in ranking if row.overrides not in close[:number])
            return Outcome((*best, *others), how=f"compared {why}")
    return Outcome(tuple(ranking))


def halve(
    question: Question,
    state: State,
    choices: Sequence[Sequence[Overrides]],
    purse: Purse,
    stage: str,
    first: int = 1,
) -> Course[Outcome | None]:
    """Halves settings by the best way that the purse holds; None if it holds none.

    Args:
        question: what is searched.
        state: what is decided.
        choices: lists of settings, of which the first is taken that fits with as late a rung as can be.
        purse: what may be spent.
        stage: in whose name.
        first: epochs before which nobody is judged, >= 1.
    """
    found = next(_fitting(question, state, choices, purse, first), None)
    if found is None:
        return None
    settings, halving, seeds = found
    base, ledger = to_the_end(question, state.overrides), purse.ledger
    yield from follow(halving, base, stage, ledger, question.training.sign)
    ends = [setting for setting in settings if _is_at_its_end(ledger, base, setting, seeds)]
    ranking = compared(ledger, base, ends, range(seeds), question.training.sign)
    rung = halving.plan.brackets[0].rungs[0]
    left = (setting for setting in settings if setting not in ends)
    others = [_left(ledger, base, setting, range(seeds), rung, question.training.sign) for setting in left]
    others.sort(key=lambda row: question.training.sign * mean(row) if row.values else math.inf)
    how = (
        f"halved {counted(len(settings), 'setting')} with {counted(seeds, 'seed')} each, first at epoch "
        f"{rung} of {question.training.epochs}"
    )
    return Outcome(tuple(ranking), tuple(others), how, "settings that are slow at first were left behind")


def _fitting(
    question: Question, state: State, choices: Sequence[Sequence[Overrides]], purse: Purse, first: int
) -> Iterator[tuple[Sequence[Overrides], Halving, int]]:
    """Ways to halve, the best first: later rungs before more settings before more seeds.

    Early ranks mislead more than a coarser grid does, and one seed of more settings finds more than several
    of few, as those that come to the end are compared again.
    """
    every = question.training.validate_every
    longest = question.training.epochs // ETA
    while (rung := longest // every * every) >= max(first, 1):
        for settings, seeds in itertools.product(choices, range(state.seeds, 0, -1)):
            if len(settings) < 2:
                continue
            runs = [[(*setting, f"seed.value={seed}") for seed in range(seeds)] for setting in settings]
            halving = Halving(runs, question.training, HalvingSettings(eta=ETA, min_epochs=rung))
            if purse.holds(Cost(len(settings) * seeds, halving.plan.cost)):
                yield settings, halving, seeds
        longest //= ETA


def _left(
    ledger: Ledger, base: Overrides, setting: Overrides, seeds: range, rung: int, sign: int
) -> Compared:
    """A setting that was left behind, with its values at the first rung."""
    runs = {seed: run_of(base, setting, seed) for seed in seeds}
    values = {seed: value_at(best_so_far(ledger.result(run), sign), rung) for seed, run in runs.items()}
    finite = {seed: value for seed, value in values.items() if math.isfinite(value)}
    return Compared(setting, finite, rung, "left behind")


def _is_at_its_end(ledger: Ledger, base: Overrides, setting: Overrides, seeds: int) -> bool:
    runs = [run_of(base, setting, seed) for seed in range(seeds)]
    return all(map(ledger.is_whole, runs))
