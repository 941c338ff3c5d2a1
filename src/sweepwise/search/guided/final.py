"""Is it better than the default? Finalists on seeds that nobody has chosen by, and the test part, once."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from sweepwise.search.guided.account import Chapter, Compared
from sweepwise.search.guided.course import Course, key_of, told, whole
from sweepwise.search.guided.ledger import Purse
from sweepwise.search.guided.stage import Question, State, compared, mean, named
from sweepwise.search.measured import Overrides
from sweepwise.search.strategy import Decision, Step
from sweepwise.search.words import counted

STAGE = "final"
QUESTION = "Is it better than the default?"
FRESH = 1000  # the first seed that no stage before has
SEEDS = 10
LEAST = 2
PAIR = 2  # what was decided, and the default
TIE = 0.25  # deviations of a run


def course(question: Question, state: State, purse: Purse) -> Course[State]:
    """Trains the finalists and the default with fresh seeds; the best mean of the metric is the result."""
    if not state.overrides:
        yield Step(())
        how = "nothing that was decided differs from it, so there is nothing to compare"
        return state.after(Chapter(STAGE, QUESTION, named(()), how))
    finalists = list(dict.fromkeys([state.overrides, *_simpler(state), ()]))
    chosen: list[Overrides] = []
    seeds = 0
    for chosen in (finalists, list(dict.fromkeys([state.overrides, ()])), [state.overrides]):
        seeds = _affordable(chosen, purse)
        if seeds >= LEAST:
            break
    if seeds < 1:
        how = "the budget has no room for fresh seeds; the values above have chosen it, so they flatter it"
        return state.after(
            Chapter(STAGE, QUESTION, named(state.overrides), how, "whether it is better than the default")
        )
    fresh = tuple(range(FRESH, FRESH + seeds))
    trials = whole((), chosen, fresh)
    why = f"{counted(len(chosen), 'setting')} with {counted(seeds, 'fresh seed')}"
    about = {"settings": [list(one) for one in chosen], "runs": len(trials)}
    yield told(STAGE, Step((Decision("begin", why, about),), tuple(trials), (why,)))
    ranking = compared(purse.ledger, (), chosen, fresh, question.training.sign)
    best = _best(question, state, ranking)
    how = f"by the mean of {why}"
    if len(chosen) > PAIR:
        how += "; they have chosen it, so they flatter it a little, which the test part does not"
    if best != state.overrides:
        how += f"; what was decided before, {named(state.overrides)}, is worse there"
    left_open = (
        "" if () in chosen else "whether it is better than the default, for which the budget had no room"
    )
    chapter = Chapter(STAGE, QUESTION, named(best), how, left_open, best, tuple(ranking))
    return replace(state.after(chapter, fresh=fresh), overrides=best)


def _best(question: Question, state: State, ranking: Sequence[Compared]) -> Overrides:
    """The best mean; what was decided before, if it is behind by a part of a deviation only."""
    best = ranking[0]
    own = next(row for row in ranking if row.overrides == state.overrides)
    if not best.values or own.note or not own.values:
        return best.overrides if best.values else state.overrides
    spread = statistics.stdev(best.values.values()) if len(best.values) > 1 else 0.0
    behind = question.training.sign * (mean(own) - mean(best))
    return state.overrides if behind <= TIE * spread else best.overrides


def _simpler(state: State) -> list[Overrides]:
    """What was decided, without its regularizers."""
    without = tuple(one for one in state.overrides if not key_of(one).startswith("regularizer"))
    return [without] if without != state.overrides else []


def _affordable(settings: list[Overrides], purse: Purse) -> int:
    for seeds in range(SEEDS, 0, -1):
        if purse.affords(whole((), settings, range(FRESH, FRESH + seeds))):
            return seeds
    return 0
