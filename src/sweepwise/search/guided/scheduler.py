"""Which learning rate and schedule? The rate first, then schedules around it; widened at the edge."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from sweepwise.search.guided import comparison
from sweepwise.search.guided.account import Chapter, Compared
from sweepwise.search.guided.course import Course, key_of, merged, told, whole
from sweepwise.search.guided.ledger import Purse
from sweepwise.search.guided.stage import Question, State, compared, distinct, named, to_the_end
from sweepwise.search.measured import Overrides
from sweepwise.search.strategy import Decision, Step

STAGE = "scheduler"
QUESTION = "Which learning rate and schedule?"
RATE = "optimizer.lr"
STEP = math.sqrt(10)  # between two rates
AROUND = (-2, -1, 0, 1, 2, 3)  # rates around the one that a range test suggests, which is a careful one
FEWER = (-1, 0, 1, 2)
WIDER = 3  # rates beyond an edge at most
FINALISTS = 3  # settings that are compared with more seeds at the end
FOR_RATES, FOR_SCHEDULES = 0.45, 0.6  # of what is left for the stage


def course(question: Question, state: State, purse: Purse) -> Course[State]:
    """Finds the rate with the schedule as it is, then schedules at this rate and the next higher one."""
    if given := question.given.get(STAGE):
        return state.after(Chapter(STAGE, QUESTION, given, "given by hand"))
    before, (state, own) = state, state.parted(STAGE, RATE)
    base = to_the_end(question, state.overrides)
    how: list[str] = []
    outcome = yield from _rates(question, state, purse.part(FOR_RATES), how)
    ranking = [row for row in outcome.ranking if row.values]
    if not ranking:
        ranking = compared(purse.ledger, base, [()], [0], question.training.sign)
    rate = ranking[0].overrides
    found = yield from _schedules(question, state, purse.part(FOR_SCHEDULES), rate, own)
    if found is not None:
        how.append(found.how)
        every = dict.fromkeys(row.overrides for row in (*found.ranking, *ranking))
        seeds = sorted(found.ranking[0].values) or [0]
        ranking = compared(purse.ledger, base, every, seeds, question.training.sign)
    rows = (*ranking, *(found.others if found else ()), *outcome.others)
    ranking = [row for row in ranking if row.values]
    if not ranking:
        trained = any(row.note or row.values for row in rows)
        why = "; ".join([*how, "no run had a value" if trained else "the budget has no room to compare"])
        return before.after(Chapter(STAGE, QUESTION, "as they are", why, "rate and schedule", compared=rows))
    ranking = _of_two_rates(question, distinct(ranking))
    last = yield from comparison.again(question, state, ranking, FINALISTS, purse, STAGE)
    best = last.ranking[0]
    few = len(question.candidates.schedules) < 2
    left_open = [
        _edge(question, best, [row.overrides for row in rows]),
        last.left_open,
        "" if found or few else "which schedule is best: there was no room to compare",
        "" if outcome.ranking or rate_of(question, ()) is None else "which rate is best: there was no room",
    ]
    chapter = Chapter(
        STAGE,
        QUESTION,
        named(best.overrides),
        how="; ".join(filter(None, [*how, last.how])),
        left_open="; ".join(filter(None, left_open)),
        overrides=best.overrides,
        compared=(*last.ranking, *(row for row in rows if row.epochs)),
    )
    return state.after(chapter)


def _of_two_rates(question: Question, ranking: Sequence[Compared]) -> list[Compared]:
    """A ranking whose second one has another rate than the first: the best of one seed may be a lucky one."""
    rate = rate_of(question, ranking[0].overrides)
    other = next((row for row in ranking if rate_of(question, row.overrides) != rate), None)
    head = [ranking[0], *([other] if other else [])]
    return [*head, *(row for row in ranking if row not in head)]


def _rates(question: Question, state: State, purse: Purse, how: list[str]) -> Course[comparison.Outcome]:
    """Compares rates with the schedule as it is."""
    base = to_the_end(question, state.overrides)
    centre, source = _centre(question, base)
    how.append(source)
    yield told(STAGE, Step((Decision("look", source, {"rate": centre}),), said=(source,)))
    listed = [f"{rate:g}" for rate in sorted(question.candidates.rates)]
    grids = [listed] if listed else [_around(question, centre, places) for places in (AROUND, FEWER)]
    choices = [at_rates(question, grid) for grid in grids]
    if len(choices[0]) < 2:
        return comparison.Outcome()
    outcome = yield from comparison.halve(question, state, choices, purse, STAGE, _first(question))
    if outcome is None:
        return comparison.Outcome()
    ranking = [row for row in outcome.ranking if row.values]
    if not ranking:
        return outcome
    seeds = sorted(ranking[0].values)
    every = [row.overrides for row in (*outcome.ranking, *outcome.others)]
    rates = sorted({rate for one in every if (rate := rate_of(question, one)) is not None})
    ranking, wider = yield from _widened(question, state, purse, rates, ranking, seeds)
    ranking, finer = yield from _refined(question, state, purse, ranking, seeds)
    how.append(f"{outcome.how}{wider}{finer}")
    return replace(outcome, ranking=tuple(ranking))


def _schedules(
    question: Question, state: State, purse: Purse, rate: Overrides, own: Overrides
) -> Course[comparison.Outcome | None]:
    """Compares schedules at a rate and the next higher one, which those that lower it bear."""
    base = to_the_end(question, state.overrides)
    families = [family for family in question.candidates.schedules if _is_possible(question, base, family[0])]
    if len(families) < 2:
        return None
    number = rate_of(question, rate)
    is_free = question.candidates.rate is not None and not question.candidates.rates
    higher = at_rates(question, [f"{float(f'{number * STEP:.2g}'):g}"]) if is_free and number else []
    every = [variant for family in families for variant in family]
    plain = [family[0] for family in families]
    before = [own] if own else []
    grids = ([rate, *higher], every), ([rate, *higher], plain), ([rate], plain), ([rate], plain[:2])
    choices = [
        list(dict.fromkeys([*before, *(merged(*pair) for pair in itertools.product(rates, schedules))]))
        for rates, schedules in grids
    ]
    trained = yield from comparison.train(question, state, choices[:3], purse, STAGE)
    if trained is not None:
        return trained
    return (yield from comparison.halve(question, state, choices, purse, STAGE, _first(question)))


def _first(question: Question) -> int:
    """Epochs before which a schedule has hardly acted."""
    return max(1, question.training.epochs // comparison.ETA**2)


def _centre(question: Question, base: Overrides) -> tuple[float | None, str]:
    """The rate around which to look, and where it is from."""
    candidates = question.candidates
    if candidates.rates:
        return None, f"the rates {', '.join(f'{rate:g}' for rate in candidates.rates)} were given"
    if candidates.rate is None:
        return None, "the rate was given"
    found = question.untrained.rate(base)
    if isinstance(found, float):
        return found, f"a range test suggests a rate of {found:.2g}"
    low, high = candidates.bounds
    return math.sqrt(low * high), f"no range test ({found}), so the middle of {low:g} to {high:g}"


def _around(question: Question, centre: float | None, places: Sequence[int]) -> list[str]:
    """Rates around one; that of the default takes the place of the nearest, so that it is among them."""
    if centre is None:
        return []
    rates = [centre * STEP**place for place in places]
    default = question.candidates.rate
    if default:
        nearest = min(range(len(rates)), key=lambda place: abs(math.log(rates[place] / default)))
        if max(rates[nearest] / default, default / rates[nearest]) <= STEP:
            rates[nearest] = default
        else:
            rates.append(default)
    return [f"{rate:g}" if rate == default else f"{float(f'{rate:.2g}'):g}" for rate in sorted(rates)]


def at_rates(question: Question, rates: Sequence[str]) -> list[Overrides]:
    """The settings of rates; that of the default is ()."""
    default = "" if question.candidates.rate is None else f"{question.candidates.rate:g}"
    return [() if rate == default else (f"{RATE}={rate}",) for rate in rates]


def _is_possible(question: Question, base: Overrides, schedule: Overrides) -> bool:
    return not question.untrained.refused(merged(base, schedule))


def rate_of(question: Question, setting: Overrides) -> float | None:
    """The learning rate of a setting; None where it has none, or it is fixed."""
    return next(
        (float(one.partition("=")[2]) for one in setting if key_of(one) == RATE), question.candidates.rate
    )


def _widened(
    question: Question,
    state: State,
    purse: Purse,
    rates: Sequence[float],
    ranking: list[Compared],
    seeds: Sequence[int],
) -> Course[tuple[list[Compared], str]]:
    """Tries rates beyond the edge as long as the best one is there and they are better."""
    base, sign = to_the_end(question, state.overrides), question.training.sign
    known = list(rates)
    tried: list[str] = []
    while len(known) > 1 and not question.candidates.rates and len(tried) < WIDER:
        best = ranking[0].overrides
        rate = rate_of(question, best)
        if rate not in (known[0], known[-1]):
            break
        beyond = float(f"{(rate / STEP if rate == known[0] else rate * STEP):.2g}")
        schedule = tuple(one for one in best if key_of(one) != RATE)
        setting = merged((f"{RATE}={beyond:g}",), schedule)
        trials = whole(base, [setting], seeds)
        if not purse.affords(trials):
            break
        why = f"the best rate, {rate:g}, is at the edge, so {beyond:g} is tried"
        about = {"setting": list(setting), "runs": len(trials)}
        yield told(STAGE, Step((Decision("widen", why, about),), tuple(trials), (why,)))
        known = sorted([*known, beyond])
        tried.append(f"{beyond:g}")
        ranking = compared(purse.ledger, base, [*(row.overrides for row in ranking), setting], seeds, sign)
    return ranking, f"; widened to {', '.join(tried)}" if tried else ""


def _refined(
    question: Question, state: State, purse: Purse, ranking: list[Compared], seeds: Sequence[int]
) -> Course[tuple[list[Compared], str]]:
    """Tries the rates half a step below and above the best one, as far as there is room."""
    rate = rate_of(question, ranking[0].overrides)
    if question.candidates.rates or not rate:
        return ranking, ""
    base, sign = to_the_end(question, state.overrides), question.training.sign
    between = [f"{float(f'{rate * factor:.2g}'):g}" for factor in (STEP**-0.5, STEP**0.5)]
    settings = at_rates(question, between)
    for some in (settings, settings[:1]):
        trials = whole(base, some, seeds)
        if purse.affords(trials):
            break
    else:
        return ranking, ""
    why = f"the best rate, {rate:g}, and half a step around it"
    about = {"settings": [list(one) for one in some], "runs": len(trials)}
    yield told(STAGE, Step((Decision("refine", why, about),), tuple(trials), (why,)))
    every = dict.fromkeys([*(row.overrides for row in ranking), *some])
    found = compared(purse.ledger, base, every, seeds, sign)
    return [row for row in found if row.values], f"; and half a step around {rate:g}"


def _edge(question: Question, best: Compared, tried: Sequence[Overrides]) -> str:
    """What is said of a best rate at the edge of those that were tried."""
    rates = {rate for one in tried if (rate := rate_of(question, one)) is not None}
    rate = rate_of(question, best.overrides)
    if not question.candidates.rates and len(rates) > 1 and rate in (min(rates), max(rates)):
        return f"rates beyond {rate:g}, the edge of those that were tried"
    return ""
